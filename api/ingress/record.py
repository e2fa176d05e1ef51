"""Records triggers: the group commit of the hot path.

Invariants:

- A future holds a Recorded only after its trigger and its run are committed.
- A batch that is repeated after an ambiguous COMMIT brings nothing back that has settled meanwhile,
  because runs are inserted only for the triggers really inserted.
- Of requests with the same key one is recorded.
- The hints leave after the commit, on a thread of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg2.errors import LockNotAvailable

from api.idempotency import key_reused
from api.ingress.call import Call
from api.ingress.deduplicate import CALLERS, Holder, RequestKey, reserve
from api.ingress.resolve import Snapshot
from shared import metrics
from shared.clock import database_clock
from shared.errors import PointsmanError, Unavailable
from shared.postgres.arrays import array
from shared.postgres.connections import USELESS, OwnedConnection, WatchedConnection
from shared.postgres.group_commit import GroupCommit
from shared.postgres.statements import PLANNED_ONCE
from shared.redis.hints import HintPublisher
from shared.redis.queues import FRESH
from shared.runs.enter import enter
from shared.threads import OwnedThread

MAX_BATCH_ROWS = 200
MAX_BATCH_BYTES = 4 * 1024 * 1024

# From so many on a trigger is large.
LARGE_BYTES = 16 * 1024
MAX_QUEUE_ROWS = 5_000
MAX_QUEUE_BYTES = 128 * 1024 * 1024
ROW_OVERHEAD_BYTES = 500

# How often the offset to PostgreSQL's clock is measured anew.
CLOCK_SECONDS = 30.0

# Others hold a key for as long as a commit takes; more means that somebody has stopped.
KEY_WAIT_MS = 200
_KEY_WAIT = f"SET LOCAL lock_timeout = {KEY_WAIT_MS}"


@dataclass(frozen=True, slots=True)
class NewTrigger:
    """A call of a trigger URL, about to be recorded.

    key: what makes it the same as another. wait_seconds: how long its caller waits for its end, 0
    for not at all.
    """

    id: UUID
    callback: Snapshot
    call: Call
    key: RequestKey | None = None
    wait_seconds: int = 0

    @property
    def may_hit_cache(self) -> bool:
        """Whether an equal call may answer it, whatever its caller sent."""
        return self.key is not None and not self.key.is_callers

    @property
    def size(self) -> int:
        """About how many bytes it takes in the queue and in the batch."""
        return ROW_OVERHEAD_BYTES + len(self.call.body) + len(self.call.headers) + len(self.call.query)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The trigger that a call became.

    repeated: it is that of an earlier, equal call, and nothing was recorded.
    """

    trigger_id: UUID
    repeated: bool = False


Decided = Recorded | PointsmanError
"""What becomes of a call that was stored with others: its trigger, or why it alone has none."""


class Recorder:
    """Stores triggers in batches and sends one hint for each."""

    def __init__(
        self, database_url: str, publisher: HintPublisher, *, call_seconds: float, first_hint_seconds: float
    ) -> None:
        self._connection = OwnedConnection(
            database_url, "record", call_seconds=call_seconds, autocommit=True, settings=PLANNED_ONCE
        )
        self._publisher = publisher
        self._first_hint_seconds = first_hint_seconds
        self._measured_at = float("-inf")
        self._commits: GroupCommit[NewTrigger, Decided] = GroupCommit(
            "record",
            self.flush,
            max_batch_rows=MAX_BATCH_ROWS,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_queue_rows=MAX_QUEUE_ROWS,
            max_queue_bytes=MAX_QUEUE_BYTES,
        )

    @property
    def thread(self) -> OwnedThread:
        return self._commits.thread

    def start(self) -> None:
        self._commits.start()

    def stop(self) -> None:
        if self._commits.stop():
            self._connection.close()

    def record(self, trigger: NewTrigger) -> asyncio.Future[Decided]:
        """Queue a trigger; the future holds a Recorded, or why this one has none.

        A Conflict: its key was used for another request. Unavailable: its key is held by another
        process. Raises Unavailable when the queue is full.
        """
        return self._commits.submit(trigger, trigger.size)

    def flush(self, triggers: Sequence[NewTrigger]) -> list[Decided]:
        """Commit a batch, then offer its hint."""
        started = time.monotonic()
        try:
            connection = self._connection.get()
            with connection.cursor() as cursor:
                if started - self._measured_at > CLOCK_SECONDS:
                    database_clock.measure(cursor)
                    self._measured_at = started
                decided = self._store(connection, cursor, triggers)
        except USELESS:
            self._connection.lost()
            raise
        new = [one.trigger_id for one in decided if isinstance(one, Recorded) and not one.repeated]
        metrics.triggers_accepted.inc(len(new))
        metrics.record_seconds.observe(time.monotonic() - started)
        self._publisher.offer(FRESH, new)
        return decided

    def _store(
        self, connection: WatchedConnection, cursor: Any, triggers: Sequence[NewTrigger]
    ) -> list[Decided]:
        """Those without a key first, in a transaction of their own: nobody's key can keep them
        waiting.
        """
        plain = [t for t in triggers if t.key is None]
        if plain:
            self._insert(cursor, plain)
        decided: dict[UUID, Decided] = {t.id: Recorded(t.id) for t in plain}
        decided |= self._store_keyed(connection, cursor, [t for t in triggers if t.key is not None])
        return [decided[t.id] for t in triggers]

    def _store_keyed(
        self, connection: WatchedConnection, cursor: Any, triggers: Sequence[NewTrigger]
    ) -> dict[UUID, Decided]:
        """One transaction; a key that another process holds for long is isolated by halving and
        fails alone.
        """
        if not triggers:
            return {}
        try:
            with connection:  # one transaction, although the connection commits each statement otherwise
                cursor.execute(_KEY_WAIT)
                holders = reserve(cursor, [(t.id, t.callback.callback_id, t.key) for t in triggers if t.key])
                decided = {t.id: _decide(t, holders) for t in triggers}
                new = [t for t in triggers if decided[t.id] == Recorded(t.id)]
                if new:
                    self._insert(cursor, new)
        except LockNotAvailable:
            if len(triggers) == 1:
                return {triggers[0].id: Unavailable("A call with the same key is being recorded just now.")}
            middle = len(triggers) // 2
            return self._store_keyed(connection, cursor, triggers[:middle]) | self._store_keyed(
                connection, cursor, triggers[middle:]
            )
        return decided

    def _insert(self, cursor: Any, triggers: Sequence[NewTrigger]) -> None:
        awaited = [t.id for t in triggers if t.wait_seconds]
        enter(cursor, _columns(triggers), self._first_hint_seconds, awaited)


def _decide(trigger: NewTrigger, holders: Mapping[tuple[UUID, str], Holder]) -> Decided:
    assert trigger.key is not None
    holder = holders[trigger.callback.callback_id, trigger.key.key]
    if holder.trigger_id == trigger.id:
        return Recorded(trigger.id)
    if holder.request_hash != trigger.key.request_hash:
        return key_reused()
    return Recorded(holder.trigger_id, repeated=True)


def _columns(triggers: Sequence[NewTrigger]) -> tuple[str, ...]:
    return (
        array(t.id for t in triggers),
        array(t.callback.callback_id for t in triggers),
        array(t.callback.user_id for t in triggers),
        array(t.call.method for t in triggers),
        array(t.call.path for t in triggers),
        array(t.call.query for t in triggers),
        array(t.call.headers for t in triggers),
        array(t.call.content_type for t in triggers),
        array(t.call.body for t in triggers),
        array(t.call.source_ip for t in triggers),
        array(t.key.key.removeprefix(CALLERS) if t.key and t.key.is_callers else None for t in triggers),
    )
