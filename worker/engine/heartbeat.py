"""A worker's sign of life, its lease, and the reconcile of its rows with its memory.

Invariants:

- The row is renewed only while the loop ticks, so that a wedged loop looks dead.
- The lease counts from the start of the last heartbeat that succeeded.
- A run that PostgreSQL says is ours and memory does not know for two heartbeats is released, so
  that an ambiguous claim strands nothing.
- The reconcile costs no lease, however many runs there are: it walks through them by their ids, a
  bounded portion at each heartbeat.

A worker whose row has gone was declared dead: it lets go of everything and goes on under a new id.
One that lacks an encryption key that the database needs never gets a row, nor a lease: its process
ends.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.errors
import structlog

from shared.clock import database_clock
from shared.config import Settings
from shared.crypto import SecretBox
from shared.errors import ConfigError
from shared.ids import new_id
from shared.keyring.checks import examine_entered
from shared.postgres.connections import OwnedConnection
from shared.process import end_misconfigured
from shared.runs import give_back
from shared.threads import EX_SOFTWARE, OwnedThread
from worker.engine.room import Room
from worker.engine.uses import CredentialUses
from worker.engine.uses import write as write_uses

# The reconcile goes on with its walk through `runs` for this share of the time between heartbeats.
RECONCILE_SHARE = 0.02

# It asks about so many runs at once, or about fewer where that takes longer than this share of the
# lease.
PORTION_ROWS = 10_000
LEAST_PORTION_ROWS = 100
PORTION_SHARE = 0.1
STOP_SECONDS = 2.0

# A busy machine may delay the loop's tick this long without anything being wrong.
LEAST_WEDGED_SECONDS = 1.0

log = structlog.get_logger("heartbeat")

_REGISTER = "INSERT INTO workers (id, host, lanes, capacity, key_ids) VALUES (%s, %s, %s, %s, %s)"
_RENEW = "UPDATE workers SET heartbeat_at = now(), in_flight = %s WHERE id = %s"
_LEAVE = "DELETE FROM workers WHERE id = %s AND NOT EXISTS (SELECT 1 FROM runs WHERE worker_id = %s)"
_BEFORE_ALL = UUID(int=0)


class Heartbeat:
    """The thread that keeps a worker alive in PostgreSQL's eyes.

    ticked_at: when the loop last ticked (monotonic seconds). on_lost: called, once per loss, when
    the lease has run out or the worker was declared dead; it must let go of all runs. dead_thread:
    the name of a thread of the engine that has ended although nobody stopped it: then the process
    ends, since nothing can fix it. secrets: what the worker opens secrets with, if it opens any.
    uses: of credentials, which it writes down with a beat.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        room: Room,
        ticked_at: Callable[[], float],
        on_lost: Callable[[str], None],
        dead_thread: Callable[[], str | None] = lambda: None,
        worker_id: UUID | None = None,
        secrets: SecretBox | None = None,
        uses: CredentialUses | None = None,
    ) -> None:
        self._settings = settings
        self._room = room
        self._ticked_at = ticked_at
        self._on_lost = on_lost
        self._dead_thread = dead_thread
        self._connection = OwnedConnection(database_url, "heartbeat", call_seconds=settings.lease_seconds / 2)
        self._worker_id = worker_id or new_id()
        self._secrets = secrets
        self._uses = uses or CredentialUses()
        self._registered = False
        self._lease_until = 0.0
        self._held = False
        self._unknown: set[tuple[UUID, int]] = set()
        # Where the walk through `runs` goes on, and by how many rows at once.
        self._after = _BEFORE_ALL
        self._portion_rows = PORTION_ROWS
        self._stop = threading.Event()
        self.thread = OwnedThread("heartbeat", self._run)

    @property
    def worker_id(self) -> UUID:
        return self._worker_id

    def holds_lease(self) -> bool:
        """Whether attempts may start: the last good heartbeat began within `lease_seconds`."""
        return time.monotonic() < self._lease_until

    def start(self) -> None:
        """Beat once, then go on in a thread.

        So the worker may claim at once, if PostgreSQL is there.
        """
        self._beat()
        self.thread.start()

    def stop(self) -> None:
        """Stop beating, give back what a late claim has left, and remove the worker's row."""
        if not self.thread.stop(self._stop.set, STOP_SECONDS):
            return  # in a slow call; the sweep of another worker removes the row
        try:
            with self._connection.transaction() as cursor:
                left = give_back.held_by(cursor, self._worker_id)
                if left:
                    give_back.release_stranded(cursor, self._worker_id, sorted(left))
                    log.info("runs_released", reason="drain", runs=len(left))
                cursor.execute(_LEAVE, (str(self._worker_id), str(self._worker_id)))
        except psycopg2.Error as error:
            log.warning("farewell_failed", error=type(error).__name__)
        self._connection.close()

    def _run(self) -> None:
        while not self._stop.wait(self._settings.heartbeat_seconds):
            self._beat()

    def _beat(self) -> None:
        started = time.monotonic()
        dead = self._dead_thread()
        if dead is not None:
            log.critical("thread_died", thread=dead)
            os._exit(EX_SOFTWARE)
        try:
            if started - self._ticked_at() > max(self._settings.heartbeat_seconds, LEAST_WEDGED_SECONDS):
                log.error("loop_wedged", seconds=round(started - self._ticked_at(), 1))
            elif self._renew():
                self._lease_until = started + self._settings.lease_seconds
                self._held = True
                self._reconcile()
                self._write_uses()
        except ConfigError as error:
            end_misconfigured(error)
        except psycopg2.Error as error:
            log.warning("heartbeat_failed", error=str(error).strip().split("\n", 1)[0][:200])
        except Exception:
            log.exception("heartbeat_broken")
        if self._held and not self.holds_lease():
            self._lose("lease_expired")

    def _renew(self) -> bool:
        """Renew the row. False: it has gone, this worker was declared dead."""
        with self._connection.transaction() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
            if self._registered:
                cursor.execute(_RENEW, (len(self._room), str(self._worker_id)))
                if cursor.rowcount == 0:
                    self._reborn()
                    return False
            else:
                self._register(cursor)
            database_clock.measure(cursor)
        self._registered = True
        return True

    def _register(self, cursor: Any) -> None:
        """Make the row; ConfigError if the keys do not fit, so that nothing is ever claimed."""
        if self._secrets is not None:
            examine_entered(cursor, self._secrets)
        settings, known = self._settings, self._secrets.key_ids if self._secrets else ()
        cursor.execute(
            _REGISTER,
            (str(self._worker_id), platform.node(), list(settings.lanes), settings.capacity, list(known)),
        )

    def _reborn(self) -> None:
        log.warning("declared_dead", worker=str(self._worker_id))
        self._worker_id = new_id()
        self._registered = False
        self._unknown = set()
        self._lose("declared_dead")

    def _lose(self, reason: str) -> None:
        self._held = False
        self._lease_until = 0.0
        log.warning("lease_lost", reason=reason)
        self._on_lost(reason)

    def _reconcile(self) -> None:
        """Release what PostgreSQL says is ours and memory did not know at this beat and the last.

        In transactions of its own, after the lease was renewed: a slow or failed reconcile costs no
        lease.
        """
        stranded = sorted(item for item in self._unknown if item[0] not in self._room)
        self._unknown = set()
        try:
            if stranded:
                self._release(stranded)
            self._walk()
        except psycopg2.errors.QueryCanceled:
            log.warning("reconcile_slow", rows=self._portion_rows)
            self._portion_rows = max(self._portion_rows // 2, LEAST_PORTION_ROWS)

    def _write_uses(self) -> None:
        """Also in a transaction of its own, after all that matters."""
        if due := self._uses.due():
            with self._connection.transaction() as cursor:
                self._bound(cursor)
                cursor.execute("SET LOCAL synchronous_commit = off")
                write_uses(cursor, due)

    def _release(self, stranded: list[tuple[UUID, int]]) -> None:
        with self._connection.transaction() as cursor:
            self._bound(cursor)
            released = give_back.release_stranded(cursor, self._worker_id, stranded)
        if released:
            log.info("runs_released", reason="reconcile", runs=released)

    def _walk(self) -> None:
        """Look at the next portions of `runs` for what memory does not know."""
        until = time.monotonic() + RECONCILE_SHARE * self._settings.heartbeat_seconds
        while True:
            with self._connection.transaction() as cursor:
                self._bound(cursor)
                mine, last = give_back.held_in_portion(
                    cursor, self._worker_id, self._after, self._portion_rows
                )
            self._unknown |= {item for item in mine if item[0] not in self._room}
            self._after = last or _BEFORE_ALL
            if last is None or time.monotonic() >= until:
                return

    def _bound(self, cursor: Any) -> None:
        milliseconds = max(int(self._settings.lease_seconds * PORTION_SHARE * 1000), 1)
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", (str(milliseconds),))
