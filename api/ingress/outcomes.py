"""What became of triggers, for callers that wait for it, without a thread for each.

One thread reads PostgreSQL for all of them: at once when a worker tells through Redis that a run
has settled, and for everybody once a second, so that Redis is only ever a matter of speed. The
number of waiters is bounded; beyond it nobody waits, so that waiting callers never take anything
from others.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2
import structlog

from shared.errors import Unavailable
from shared.postgres.connections import OwnedConnection
from shared.threads import OwnedThread

LOOK_SECONDS = 1.0

# One tenant's waiters take at most one part in this many of the places.
TENANT_SHARE = 4

# Beyond a wait's own time nobody can be waiting any more.
FORGOTTEN_SECONDS = 10.0
MAX_LOOK_IDS = 500
CALL_SECONDS = 3.0
STOP_SECONDS = 3.0

log = structlog.get_logger("outcomes")

_ENDS = """
SELECT l.id, CASE WHEN l.success THEN 'SUCCESS' ELSE 'FAILED' END, l.created_at FROM logs l WHERE l.id = ANY(%(ids)s::uuid[])
UNION ALL SELECT r.trigger_id, r.status::text, NULL FROM runs r WHERE r.trigger_id = ANY(%(ids)s::uuid[])
"""
_EXECUTIONS = """
SELECT x.trigger_id, jsonb_agg(jsonb_build_object(
  'id', x.id, 'actionId', x.action_id, 'type', x.type, 'step', x.step, 'status', x.status, 'attempt', x.attempt,
  'statusCode', x.response->'statusCode', 'durationMs', x.duration_ms, 'code', split_part(x.error, ':', 1))
  ORDER BY x.step, x.id)
FROM action_executions x WHERE x.trigger_id = ANY(%s::uuid[]) GROUP BY x.trigger_id
"""


@dataclass(frozen=True, slots=True)
class TriggerOutcome:
    """How far a trigger is.

    status: None when it is not kept any more. executions: told once it has settled. Responses and
    error texts are not among them: a trigger URL is public, and they may hold secrets.
    """

    status: str | None = None
    finished_at: datetime | None = None
    executions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return self.finished_at is not None


@dataclass(frozen=True, slots=True)
class _Wait:
    """Whose end is waited for, by a caller of whose callback, and until when (monotonic
    seconds).
    """

    trigger_id: UUID
    user_id: UUID
    until: float


class Outcomes:
    """Reads outcomes for whoever asks or waits."""

    def __init__(self, database_url: str, max_waiters: int) -> None:
        self._connection = OwnedConnection(database_url, "outcomes", call_seconds=CALL_SECONDS)
        self._max_waiters = max_waiters
        self._waiting: dict[Future[TriggerOutcome], _Wait] = {}
        self._waiters_of: Counter[UUID] = Counter()
        self._asked: list[tuple[UUID, Future[TriggerOutcome]]] = []
        self._told: set[UUID] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self.thread = OwnedThread("outcomes", self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Let everybody go, untold."""
        if self.thread.stop(self._end, STOP_SECONDS):
            self._connection.close()

    def _end(self) -> None:
        with self._wake:
            self._stopping = True
            left = [*self._waiting, *(future for _, future in self._asked)]
            self._waiting.clear()
            self._waiters_of.clear()
            self._asked.clear()
            self._wake.notify()
        for future in left:
            _set(future, TriggerOutcome("PENDING"))

    def _has_room(self, user_id: UUID) -> bool:
        if len(self._waiting) >= self._max_waiters:
            return False
        share = max(self._max_waiters // TENANT_SHARE, 1)
        return self._waiters_of[user_id] < share

    def ask(self, trigger_id: UUID) -> Future[TriggerOutcome]:
        """How far it is now."""
        future: Future[TriggerOutcome] = Future()
        with self._wake:
            if self._stopping or len(self._asked) >= self._max_waiters + MAX_LOOK_IDS:
                future.set_exception(Unavailable("Too many callers ask for outcomes."))
            else:
                self._asked.append((trigger_id, future))
                self._wake.notify()
        return future

    def wait(self, trigger_id: UUID, user_id: UUID, seconds: float) -> Future[TriggerOutcome] | None:
        """Its end, within about this time. Cancel the future to wait no longer; None when too many
        are waiting.

        user_id: whose callback was called, so that no tenant takes all places.
        """
        future: Future[TriggerOutcome] = Future()
        with self._wake:
            if self._stopping or not self._has_room(user_id):
                return None
            until = time.monotonic() + seconds + FORGOTTEN_SECONDS
            self._waiting[future] = _Wait(trigger_id, user_id, until)
            self._waiters_of[user_id] += 1
            if len(self._waiting) == 1:
                self._wake.notify()
        future.add_done_callback(self._forget)
        return future

    def settled(self, ids: Iterable[UUID]) -> None:
        """A worker tells that these have settled."""
        with self._wake:
            if self._waiting:
                self._told.update(ids)
                self._wake.notify()

    def _forget(self, future: Future[TriggerOutcome]) -> None:
        with self._wake:
            gone = self._waiting.pop(future, None)
            if gone is not None:
                self._waiters_of[gone.user_id] -= 1
                if not self._waiters_of[gone.user_id]:
                    del self._waiters_of[gone.user_id]

    def _run(self) -> None:
        look_at = time.monotonic() + LOOK_SECONDS
        while True:
            with self._wake:
                while not (self._stopping or self._asked or self._told or self._is_time(look_at)):
                    self._wake.wait(max(look_at - time.monotonic(), 0.0) if self._waiting else None)
                if self._stopping:
                    return
                everybody = self._is_time(look_at)
                asked, self._asked = self._asked, []
                told, self._told = self._told, set()
                waiting = {
                    f: w.trigger_id for f, w in self._waiting.items() if everybody or w.trigger_id in told
                }
                forgotten = [f for f, w in self._waiting.items() if everybody and time.monotonic() > w.until]
            if everybody:
                look_at = time.monotonic() + LOOK_SECONDS
            for future in forgotten:
                _set(future, TriggerOutcome("PENDING"))
            self._tell(asked, waiting)

    def _is_time(self, look_at: float) -> bool:
        return bool(self._waiting) and time.monotonic() >= look_at

    def _tell(
        self, asked: list[tuple[UUID, Future[TriggerOutcome]]], waiting: dict[Future[TriggerOutcome], UUID]
    ) -> None:
        try:
            found = self._read({one for one, _ in asked} | set(waiting.values()))
        except psycopg2.Error as error:
            log.warning("outcomes_not_read", error=type(error).__name__)
            for _, future in asked:
                with contextlib.suppress(InvalidStateError):
                    if not future.done():
                        future.set_exception(Unavailable("PostgreSQL is not available."))
            return
        for trigger_id, future in asked:
            _set(future, found.get(trigger_id, TriggerOutcome()))
        for future, trigger_id in waiting.items():
            outcome = found.get(trigger_id)
            if outcome is not None and outcome.settled:
                _set(future, outcome)

    def _read(self, ids: set[UUID]) -> dict[UUID, TriggerOutcome]:
        found: dict[UUID, TriggerOutcome] = {}
        listed = sorted(str(one) for one in ids)
        for start in range(0, len(listed), MAX_LOOK_IDS):
            with self._connection.transaction() as cursor:
                cursor.execute(_ENDS, {"ids": listed[start : start + MAX_LOOK_IDS]})
                ends = cursor.fetchall()
                settled = [str(row[0]) for row in ends if row[2] is not None]
                cursor.execute(_EXECUTIONS, (settled,))
                executions = dict(cursor.fetchall())
            found |= {row[0]: TriggerOutcome(row[1], row[2], executions.get(row[0], [])) for row in ends}
        return found


def _set(future: Future[TriggerOutcome], outcome: TriggerOutcome) -> None:
    """Give an outcome to a future whose owner may have gone, or been told by stop() at the same
    time.
    """
    with contextlib.suppress(InvalidStateError):
        if not future.done():
            future.set_result(outcome)
