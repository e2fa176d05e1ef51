"""Which calls of a trigger URL are the same, and which trigger they share.

Two kinds of key, both rows of `idempotency_keys`: one that the caller sent (`Idempotency-Key`),
and, for a callback with a cache period, one made of the request itself. A key names one trigger
until it expires; a key made of the request lets go of a trigger that FAILED. A caller's key decides
alone: with one, the cache is not asked.

Invariant: reserve() runs in the transaction that inserts the triggers, before them, with its keys
sorted, so that of any number of equal requests, in any number of processes, one is recorded. A key
that is taken already is only read: a key that everybody sends keeps nobody waiting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.idempotency import check_key
from api.ingress.call import Call
from api.ingress.resolve import Snapshot
from api.threads import Threads
from shared.postgres.arrays import array

CALLERS = "caller:"
CACHE = "cache:"

# A larger body is hashed by a thread, and not between others' turns.
MAX_HASHED_ON_LOOP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a call the same as another of its callback.

    request_hash: SHA-256 of method, query and body. lifetime_seconds: from when it is recorded.
    """

    key: str
    request_hash: bytes
    lifetime_seconds: float

    @property
    def is_callers(self) -> bool:
        """Whether the caller chose it; otherwise it is the request's own, for the cache."""
        return self.key.startswith(CALLERS)


@dataclass(frozen=True, slots=True)
class Holder:
    """The trigger that a key names, and the request that it was recorded for."""

    trigger_id: UUID
    request_hash: bytes


_RESERVE = """
INSERT INTO idempotency_keys AS k (callback_id, key, request_hash, trigger_id, expires_at)
SELECT n.callback_id, n.key, n.request_hash, n.trigger_id, now() + make_interval(secs => n.lifetime)
FROM unnest(%s::uuid[], %s::text[], %s::bytea[], %s::uuid[], %s::float8[])
  AS n(callback_id, key, request_hash, trigger_id, lifetime)
ORDER BY n.callback_id, n.key
ON CONFLICT (callback_id, key) DO UPDATE SET request_hash = excluded.request_hash,
  trigger_id = excluded.trigger_id, created_at = now(), expires_at = excluded.expires_at
WHERE k.expires_at <= now() OR k.key LIKE 'cache:%%' AND EXISTS (
  SELECT 1 FROM logs l WHERE l.id = k.trigger_id AND NOT l.success)
"""
_HOLDERS = """
SELECT k.callback_id, k.key, k.trigger_id, k.request_hash FROM idempotency_keys k
JOIN unnest(%s::uuid[], %s::text[]) AS n(callback_id, key) ON n.callback_id = k.callback_id AND n.key = k.key
"""
_STILL_TAKEN = """
WHERE k.expires_at > now() AND NOT (k.key LIKE 'cache:%%' AND EXISTS (
  SELECT 1 FROM logs l WHERE l.id = k.trigger_id AND NOT l.success))
"""


async def key_of_call(
    call: Call, callback: Snapshot, lifetime_seconds: float, threads: Threads
) -> RequestKey | None:
    """The key of a call, None when every call counts. Raises Refused for a key that cannot be one.

    lifetime_seconds: how long a key lasts that the caller chose. threads: hash large bodies.
    """
    if call.idempotency_key is None and not callback.cache_period_seconds:
        return None
    if len(call.body) <= MAX_HASHED_ON_LOOP_BYTES:
        return _key(call, callback, lifetime_seconds)
    return await threads.call(_key, call, callback, lifetime_seconds)


def _key(call: Call, callback: Snapshot, lifetime_seconds: float) -> RequestKey:
    digest = _hash(call)
    if call.idempotency_key is None:
        return RequestKey(CACHE + digest.hex(), digest, callback.cache_period_seconds)
    return RequestKey(CALLERS + check_key(call.idempotency_key), digest, lifetime_seconds)


def _hash(call: Call) -> bytes:
    """The list's JSON has no line break, so that no part can be mistaken for another."""
    digest = hashlib.sha256(json.dumps([call.method, call.query]).encode() + b"\n")
    digest.update(call.body)
    return digest.digest()


Wanted = tuple[UUID, UUID, RequestKey]
"""A trigger's id, its callback's id and its key."""


def reserve(cursor: Any, wanted: Sequence[Wanted]) -> dict[tuple[UUID, str], Holder]:
    """Take these keys for these triggers where they are free; who has each, by callback and key.

    Of equal keys the first one counts. Safe to repeat: who already has a key keeps it.
    """
    first: dict[tuple[UUID, str], Wanted] = {}
    for one in wanted:
        first.setdefault((one[1], one[2].key), one)
    taken = _holders(cursor, _HOLDERS + _STILL_TAKEN, list(first))
    free = {name: one for name, one in first.items() if name not in taken}
    if not free:
        return taken
    cursor.execute(
        _RESERVE,
        (
            array(callback_id for callback_id, _ in free),
            array(key for _, key in free),
            array(key.request_hash for _, _, key in free.values()),
            array(trigger_id for trigger_id, _, _ in free.values()),
            array(key.lifetime_seconds for _, _, key in free.values()),
        ),
    )
    return taken | _holders(cursor, _HOLDERS, list(free))


Name = tuple[UUID, str]
"""A callback's id and a key."""


def _holders(cursor: Any, statement: str, names: Sequence[Name]) -> dict[Name, Holder]:
    cursor.execute(
        statement, (array(callback_id for callback_id, _ in names), array(key for _, key in names))
    )
    return {(row[0], row[1]): Holder(row[2], bytes(row[3])) for row in cursor.fetchall()}
