"""STORE's door: a group commit into `stored_items`.

Invariants:

- A user's items never exceed the cap by more than the rows of one batch.
- An item whose (trigger_id, action_id) exists is not stored again and counts as stored.
- It has a thread and a connection of its own, so that no attempt blocks the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg2 import Binary

from shared.config import Settings
from shared.errors import Invalid, Unavailable
from shared.ids import new_id
from shared.postgres.connections import OwnedConnection
from shared.postgres.group_commit import GroupCommit
from shared.threads import first_dead

MAX_BATCH_ROWS = 100
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_QUEUE_ROWS = 20_000
MAX_QUEUE_BYTES = 256 * 1024 * 1024
CALL_SECONDS = 10.0

_COUNT = """
SELECT u.user_id, (SELECT count(*) FROM (SELECT 1 FROM stored_items s WHERE s.user_id = u.user_id LIMIT u.cap) c)
FROM unnest(%s::uuid[], %s::int[]) AS u(user_id, cap)
"""
_STORED = """
SELECT s.trigger_id, s.action_id FROM stored_items s
JOIN unnest(%s::uuid[], %s::uuid[]) AS w(trigger_id, action_id) USING (trigger_id, action_id)
"""
_INSERT = """
INSERT INTO stored_items (id, user_id, callback_id, action_id, trigger_id, key, content, content_type,
  content_encoding, content_language)
SELECT i.* FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::bytea[], %s::text[],
  %s::text[], %s::text[])
  AS i(id, user_id, callback_id, action_id, trigger_id, key, content, content_type, content_encoding, content_language)
WHERE EXISTS (SELECT 1 FROM callbacks c WHERE c.id = i.callback_id)
ON CONFLICT (trigger_id, action_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class NewItem:
    """One value to keep. max_items: the cap on its user's items.

    content_type, content_encoding, content_language: under what the content came.
    """

    user_id: UUID
    callback_id: UUID
    action_id: UUID
    trigger_id: UUID
    key: str | None
    content: bytes
    content_type: str | None
    max_items: int
    timeout_ms: int
    content_encoding: str | None = None
    content_language: str | None = None


class Storage:
    """Stores items for the coroutines of one engine."""

    def __init__(self, database_url: str) -> None:
        self._connection = OwnedConnection(database_url, "storage", call_seconds=CALL_SECONDS)
        self._commits: GroupCommit[NewItem, bool] = GroupCommit(
            "storage",
            self._flush,
            max_batch_rows=MAX_BATCH_ROWS,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_queue_rows=MAX_QUEUE_ROWS,
            max_queue_bytes=MAX_QUEUE_BYTES,
        )

    @classmethod
    def make(cls, settings: Settings) -> Storage:
        """The door of one worker process."""
        return cls(settings.postgres)

    async def open(self) -> None:
        self._commits.start()

    async def close(self) -> None:
        """Store what is queued, as far as a bounded time allows."""
        await asyncio.to_thread(self._stop)  # it waits for the thread, which must not stop the loop

    def dead_thread(self) -> str | None:
        return first_dead([self._commits.thread])

    async def store(self, item: NewItem) -> None:
        """Store an item; raises Invalid over the quota, Unavailable without PostgreSQL or time."""
        future = self._commits.submit(item, len(item.content) + 200)
        try:
            async with asyncio.timeout(item.timeout_ms / 1000):
                stored = await future
        except TimeoutError:
            raise Unavailable(
                f"The item was not stored within {item.timeout_ms} ms.",
                code="timeout",
                hint="PostgreSQL is busy or away; the callback's timeoutDuration bounds each attempt.",
            ) from None
        if not stored:
            raise Invalid(
                f"This account already keeps {item.max_items} stored items.",
                code="too_many_items",
                hint="Delete callbacks whose items are no longer needed, or ask the operator to raise POINTSMAN_MAX_STORED_ITEMS.",
            )

    def _stop(self) -> None:
        if self._commits.stop():
            self._connection.close()

    def _flush(self, items: Sequence[NewItem]) -> list[bool]:
        with self._connection.transaction() as cursor:
            admitted = self._admit(cursor, items)
            rows = sorted(
                (item for item, fits in zip(items, admitted, strict=True) if fits), key=lambda i: i.trigger_id
            )
            if rows:
                cursor.execute(_INSERT, _columns(rows))
        return admitted

    def _admit(self, cursor: Any, items: Sequence[NewItem]) -> list[bool]:
        caps = {str(item.user_id): item.max_items for item in items}
        cursor.execute(_COUNT, (list(caps), list(caps.values())))
        kept: Counter[str] = Counter({str(user): count for user, count in cursor.fetchall()})
        admitted = []
        stored = _stored_already(cursor, items)
        for item in items:
            user = str(item.user_id)
            is_stored = (item.trigger_id, item.action_id) in stored
            admitted.append(is_stored or kept[user] < item.max_items)
            kept[user] += not is_stored
        return admitted


def _stored_already(cursor: Any, items: Sequence[NewItem]) -> set[tuple[UUID, UUID]]:
    """What an earlier attempt stored: a repeated attempt succeeds at the cap, too."""
    triggers = [str(item.trigger_id) for item in items]
    cursor.execute(_STORED, (triggers, [str(item.action_id) for item in items]))
    return {(trigger_id, action_id) for trigger_id, action_id in cursor.fetchall()}


def _columns(items: Sequence[NewItem]) -> tuple[list[Any], ...]:
    return (
        [str(new_id()) for _ in items],
        [str(item.user_id) for item in items],
        [str(item.callback_id) for item in items],
        [str(item.action_id) for item in items],
        [str(item.trigger_id) for item in items],
        [item.key for item in items],
        [Binary(item.content) for item in items],
        [item.content_type for item in items],
        [item.content_encoding for item in items],
        [item.content_language for item in items],
    )
