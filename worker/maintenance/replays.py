"""Carries replay jobs on, a small portion of each in turn.

Invariants:

- A portion and the job's progress are one transaction, so that whatever is interrupted goes on
  where it was.
- A job that is cancelled replays nothing more.
- One that cannot go on ends FAILED with a reason and holds up no other.

The new runs are due at once and hinted by the sweep, fairly between tenants.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg2
import structlog
from psycopg2.errors import CheckViolation, QueryCanceled

from shared.ids import first_id_of
from shared.postgres.connections import OwnedConnection
from shared.postgres.group_commit import is_content_error
from shared.runs.replay import replay
from shared.runs.settle import SETTLED_EVENT
from worker.maintenance.duty import is_mine

# Each may bring a body of 1 MiB along.
PORTION_TRIGGERS = 50

# What is left then waits for the next pass: the other duties wait for this one.
PASS_SECONDS = 0.5

# A job of more triggers has no total.
MAX_COUNTED = 1_000_000

# A job that takes longer to count has no total: the other duties wait, and so does who cancels it.
COUNT_MS = 300

# A job that takes longer to find its next triggers ends, rather than stop the others each second.
PORTION_MS = 5_000

log = structlog.get_logger("maintenance")

_NEXT = """
SELECT j.id, j.callback_id, j.status, j.start::text, j.received_from, j.received_to, j.last_trigger_id, j.total,
  c.deleted_at IS NULL AND c.active_status AND u.is_active AND u.deleted_at IS NULL, j.replayed + j.skipped, j.user_id
FROM replay_jobs j JOIN callbacks c ON c.id = j.callback_id JOIN users u ON u.id = j.user_id
WHERE j.state = 'RUNNING' AND j.id > %s ORDER BY j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
"""
_CHOSEN = """
FROM logs l WHERE l.callback_id = %(callback)s AND l.id > %(after)s AND l.id < %(before)s
  AND l.success = %(success)s AND l.event = %(event)s
"""
_COUNT = f"SELECT count(*) FROM (SELECT 1 {_CHOSEN} LIMIT %(limit)s) counted"  # noqa: S608 - fixed texts
_PORTION = f"SELECT l.id {_CHOSEN} ORDER BY l.id LIMIT %(limit)s"
_ADVANCE = """
UPDATE replay_jobs SET last_trigger_id = %s, replayed = replayed + %s, skipped = skipped + %s, total = %s,
  updated_at = now() WHERE id = %s
"""
_END = """
UPDATE replay_jobs SET state = %s, error = %s, finished_at = now(), updated_at = now(), total = coalesce(total, %s)
WHERE id = %s AND state = 'RUNNING'
"""
_FIRST = UUID(int=0)


class Replays:
    """Looks each second for open jobs."""

    name = "replays"

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self.interval_seconds = interval_seconds
        self._after = _FIRST  # the job that had the last portion: the next one has the next

    def do(self, connection: OwnedConnection) -> int:
        replayed = 0
        until = time.monotonic() + PASS_SECONDS
        idle_rounds = 0
        while idle_rounds < 2 and time.monotonic() < until:
            found = self._step(connection)
            if found is None:
                idle_rounds += 1
                self._after = _FIRST
            else:
                idle_rounds = 0
                replayed += found
        return replayed

    def _step(self, connection: OwnedConnection) -> int | None:
        """One portion of the next job; None when no job lies behind the last one."""
        job: tuple[Any, ...] | None = None
        try:
            with connection.transaction() as cursor:
                if not is_mine(cursor, self.name):
                    return None
                cursor.execute(_NEXT, (str(self._after),))
                job = cursor.fetchone()
                if job is None:
                    return None
                self._after = job[0]
                return _advance(cursor, job)
        except psycopg2.Error as error:
            reason = _reason_to_end(error)
            if job is None or reason is None:
                raise
            log.exception("replay_job_failed", job=str(job[0]))
            with connection.transaction() as cursor:
                cursor.execute(_END, ("FAILED", reason, None, str(job[0])))
            return 0


def _reason_to_end(error: psycopg2.Error) -> str | None:
    """Why a job cannot go on; None when the installation is in trouble, for which a job waits."""
    if isinstance(error, QueryCanceled):
        return "Finding its triggers took too long. Choose a shorter period."
    if isinstance(error, CheckViolation):  # today's partition is missing
        return None
    return "A trigger could not be recorded again." if is_content_error(error) else None


def _advance(cursor: Any, job: tuple[Any, ...]) -> int:
    (
        job_id,
        callback_id,
        status,
        start,
        received_from,
        received_to,
        last_id,
        total,
        is_active,
        done,
        user_id,
    ) = job
    if not is_active:
        cursor.execute(_END, ("FAILED", "The callback was switched off or deleted.", None, str(job_id)))
        return 0
    first = _FIRST if received_from is None else UUID(int=max(first_id_of(received_from).int - 1, 0))
    chosen = {
        "callback": str(callback_id),
        "after": str(last_id or first),
        "before": str(first_id_of(received_to)),
        "success": status == "SUCCESS",
        "event": SETTLED_EVENT,
    }
    if total is None and last_id is None:
        total = _count(cursor, chosen)
    with _bounded(cursor, PORTION_MS):
        cursor.execute(_PORTION, {**chosen, "limit": PORTION_TRIGGERS})
        portion = [row[0] for row in cursor.fetchall()]
    # copying large bodies may take its time
    if not portion:
        cursor.execute(_END, ("DONE", None, done, str(job_id)))
        return 0
    renewed = replay(cursor, user_id, portion, start)
    progress = (str(portion[-1]), len(renewed), len(portion) - len(renewed), total, str(job_id))
    cursor.execute(_ADVANCE, progress)
    return len(renewed)


def _count(cursor: Any, chosen: dict[str, Any]) -> int | None:
    """How many triggers a job is about, None when that cannot be said soon."""
    try:
        with _bounded(cursor, COUNT_MS):
            cursor.execute(_COUNT, {**chosen, "limit": MAX_COUNTED + 1})
            counted: int = cursor.fetchone()[0]
    except QueryCanceled:
        return None
    return counted if counted <= MAX_COUNTED else None


@contextmanager
def _bounded(cursor: Any, milliseconds: int) -> Iterator[None]:
    """Let statements in the block take at most so long. They only read: they are rolled back.

    What the session allowed before holds again afterwards. (DEFAULT would be what the role says.)
    """
    cursor.execute(f"SAVEPOINT bounded; SET LOCAL statement_timeout = {milliseconds}")
    try:
        yield
    except QueryCanceled:
        cursor.execute("ROLLBACK TO SAVEPOINT bounded")
        raise
    cursor.execute("ROLLBACK TO SAVEPOINT bounded; RELEASE SAVEPOINT bounded")
