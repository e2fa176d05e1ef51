"""Voids the claims of workers that have died.

Invariants:

- A worker is declared dead only after this process has itself seen the same `heartbeat_at`
  unchanged, through successful reads, for `stale_seconds` of its own monotonic clock.
- A failed read starts that clock anew, and so does one of a PostgreSQL that takes no writes: no
  heart can beat there.
- A late read starts it anew, too: one that took longer than a heartbeat's interval, or that follows
  the last good one after more than LATEST_SHARE of `stale_seconds`. A PostgreSQL that is frozen
  for a while fails no read. It answers when it goes on, before any heart has beaten again.

After an outage of PostgreSQL every heartbeat looks stale, and nobody has died. Each run counts how
often it was lost, and how often it was all that the dead worker had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog

from shared.postgres.connections import OwnedConnection
from shared.postgres.sessions import ReadOnlySession
from shared.runs import give_back
from worker.maintenance.duty import is_mine

log = structlog.get_logger("maintenance")

# Two reads further apart than this share of `stale_seconds` say nothing of the time between them.
LATEST_SHARE = 0.25

# What the history of an execution says then.
WORKER_LOST = {"outcome": "worker_lost", "error": "worker_lost: The worker died during this attempt."}

_SEEN = "SELECT id::text, heartbeat_at::text, current_setting('transaction_read_only') = 'on' FROM workers"
_ORPHANED = """
SELECT DISTINCT worker_id::text FROM runs WHERE status = 'RUNNING' AND worker_id NOT IN (SELECT id FROM workers)
"""
_UNCHANGED = "SELECT coalesce((SELECT heartbeat_at::text FROM workers WHERE id = %s FOR UPDATE), 'no row')"
_BURY = "DELETE FROM workers WHERE id = %s"


def bury(cursor: Any, worker: str, lost: Sequence[str]) -> None:
    """Let what a dead worker was at be PENDING, and remove its row. lost: its runs, void by now."""
    give_back.reopen(cursor, lost, WORKER_LOST)
    cursor.execute(_BURY, (worker,))


class DeadWorkers:
    """Watches the heartbeats of all workers.

    heartbeat_seconds: the interval of heartbeats; by default LATEST_SHARE of stale_seconds. lost:
    told of the runs that a dead one had.
    """

    name = "dead_workers"

    def __init__(
        self,
        stale_seconds: float,
        interval_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        heartbeat_seconds: float | None = None,
        lost: Callable[[Sequence[UUID]], None] = lambda _ids: None,
    ) -> None:
        self.interval_seconds = interval_seconds
        self._lost = lost
        self._stale_seconds = stale_seconds
        self._latest_seconds = stale_seconds * LATEST_SHARE
        self._longest_read_seconds = heartbeat_seconds or self._latest_seconds
        self._monotonic = monotonic
        # When the last good read began.
        self._read_at = float("-inf")
        # Worker ids that runs name and `workers` does not, when last looked for.
        self._orphaned: set[str] = set()
        self._looked_for_orphans_at = float("-inf")
        # By worker id: its heartbeat_at, and since when we have seen that.
        self._seen: dict[str, tuple[str, float]] = {}

    def do(self, connection: OwnedConnection) -> int:
        try:
            stale = self._look(connection)
        except BaseException:
            self._start_anew()
            raise
        return sum(self._void(connection, worker, beat) for worker, beat in stale)

    def _look(self, connection: OwnedConnection) -> list[tuple[str, str]]:
        now = self._monotonic()
        with connection.transaction() as cursor:
            cursor.execute(_SEEN)
            seen = cursor.fetchall()
            if any(read_only for _, _, read_only in seen):
                raise ReadOnlySession("Heartbeats are not judged while PostgreSQL takes no writes.")
            beats: dict[str, str] = {worker: beat for worker, beat, _ in seen}
            if now - self._looked_for_orphans_at >= self._stale_seconds / 2:  # it reads all of `runs`
                cursor.execute(_ORPHANED)
                self._orphaned = {row[0] for row in cursor.fetchall()}
                self._looked_for_orphans_at = now
        now = self._judge(now)
        beats = dict.fromkeys(self._orphaned, "no row") | beats
        self._seen = {
            worker: self._seen[worker] if self._seen.get(worker, ("", 0.0))[0] == beat else (beat, now)
            for worker, beat in beats.items()
        }
        return [(w, beat) for w, (beat, since) in self._seen.items() if now - since >= self._stale_seconds]

    def _judge(self, started: float) -> float:
        """Start the clock anew if the read that began then is late; since when it counts."""
        ended = self._monotonic()
        pause, took = started - self._read_at, ended - started
        if pause > self._latest_seconds or took > self._longest_read_seconds:
            if self._seen:
                log.info("heartbeats_read_late", seconds=round(took, 1), after_seconds=round(pause, 1))
            self._start_anew()
            started = ended
        self._read_at = started
        return started

    def _start_anew(self) -> None:
        self._seen.clear()
        self._read_at = float("-inf")

    def _void(self, connection: OwnedConnection, worker: str, beat: str) -> int:
        with connection.transaction() as cursor:
            if not is_mine(cursor, self.name):
                return 0
            lost = give_back.void(cursor, worker)
            cursor.execute(_UNCHANGED, (worker,))
            if cursor.fetchone()[0] != beat:  # it lives after all: undo
                cursor.connection.rollback()
                self._seen.pop(worker, None)
                return 0
            bury(cursor, worker, lost)
        self._seen.pop(worker, None)
        self._orphaned.discard(worker)
        log.warning("worker_dead", worker=worker, runs=len(lost))
        if lost:
            self._lost([UUID(trigger_id) for trigger_id in lost])
        return len(lost) or 1
