"""Records triggers: the group commit of the hot path.

Invariants: a future is done without error only after its trigger and its run are committed; a batch that is
repeated after an ambiguous COMMIT brings nothing back that has settled meanwhile, because runs are inserted
only for the triggers really inserted; the hints leave after the commit, on a thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2 import Binary

from shared import metrics
from shared.clock import database_clock
from shared.db import OwnedConnection
from shared.group_commit import GroupCommit
from shared.hints import HintPublisher
from shared.queues import FRESH

MAX_BATCH_ROWS = 200
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_QUEUE_ROWS = 5_000
MAX_QUEUE_BYTES = 128 * 1024 * 1024
ROW_OVERHEAD_BYTES = 500
CLOCK_SECONDS = 30.0  # how often the offset to PostgreSQL's clock is measured anew

_RECORD = """
WITH t AS (
  INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip)
  SELECT i.id, i.callback_id, i.user_id, i.method, i.path, i.query, i.headers::jsonb, i.content_type, i.body,
    i.source_ip::inet
  FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
              %s::bytea[], %s::text[])
    AS i(id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip)
  ON CONFLICT DO NOTHING RETURNING id, callback_id, user_id)
INSERT INTO runs (trigger_id, callback_id, user_id, hint_at)
SELECT id, callback_id, user_id, now() + make_interval(secs => %s) FROM t
"""


@dataclass(frozen=True, slots=True)
class NewTrigger:
    """A call of a trigger URL, about to be recorded. headers: a JSON array of pairs."""

    id: UUID
    callback_id: UUID
    user_id: UUID
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: bytes
    source_ip: str | None


class Recorder:
    """Stores triggers in batches and sends one hint for each."""

    def __init__(
        self, database_url: str, publisher: HintPublisher, *, call_seconds: float, first_hint_seconds: float
    ) -> None:
        self._connection = OwnedConnection(database_url, "record", call_seconds=call_seconds, autocommit=True)
        self._publisher = publisher
        self._first_hint_seconds = first_hint_seconds
        self._measured_at = float("-inf")
        self._commits: GroupCommit[NewTrigger, None] = GroupCommit(
            "record",
            self.flush,
            max_batch_rows=MAX_BATCH_ROWS,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_queue_rows=MAX_QUEUE_ROWS,
            max_queue_bytes=MAX_QUEUE_BYTES,
        )

    def start(self) -> None:
        self._commits.start()

    def stop(self) -> None:
        self._commits.stop()
        self._connection.close()

    def record(self, trigger: NewTrigger) -> Future[None]:
        """Queue a trigger. The future ends without error once it is committed; raises Unavailable when full."""
        size = ROW_OVERHEAD_BYTES + len(trigger.body) + len(trigger.headers) + len(trigger.query)
        return self._commits.submit(trigger, size)

    def flush(self, triggers: Sequence[NewTrigger]) -> list[None]:
        """Commit a batch, then offer its hint."""
        started = time.monotonic()
        try:
            connection = self._connection.get()
            with connection.cursor() as cursor:
                if started - self._measured_at > CLOCK_SECONDS:
                    database_clock.measure(cursor)
                    self._measured_at = started
                cursor.execute(_RECORD, (*_columns(triggers), self._first_hint_seconds))
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._connection.lost()
            raise
        metrics.triggers_accepted.inc(len(triggers))
        metrics.record_seconds.observe(time.monotonic() - started)
        self._publisher.offer(FRESH, [trigger.id for trigger in triggers])
        return [None] * len(triggers)


def _columns(triggers: Sequence[NewTrigger]) -> tuple[list[Any], ...]:
    return (
        [str(t.id) for t in triggers],
        [str(t.callback_id) for t in triggers],
        [str(t.user_id) for t in triggers],
        [t.method for t in triggers],
        [t.path for t in triggers],
        [t.query for t in triggers],
        [t.headers for t in triggers],
        [t.content_type for t in triggers],
        [Binary(t.body) for t in triggers],
        [t.source_ip for t in triggers],
    )
