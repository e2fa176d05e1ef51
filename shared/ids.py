"""Keys: UUIDv7 made here, never by PostgreSQL, with PostgreSQL's time in them.

A key made before a commit can be sent again after an ambiguous one. Its first 48 bits are ms since
1970 by the database's clock, so that a skewed host cannot write outside the partitions; the others
are random, also in a process that was forked (a test holds uuid-utils to that).

An execution's id is its trigger's first 12 bytes and 4 of its own. So it names the partition it
stands in: look it up with `trigger_id BETWEEN lowest AND highest AND id = …` (trigger_range).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from shared.clock import database_clock

# The 4 bytes of an execution's id that its trigger's has not.
_OWN_MASK = 0xFFFFFFFF
_NANOSECONDS_PER_MS = 1_000_000
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_DAY_MS = 86_400_000

# The highest id there can be.
_LAST_ID = 2**128 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(now_ms: int | None = None) -> UUID:
    """Make a key: UUIDv7 (RFC 9562) of now_ms (ms since 1970), by default the database's now.

    Keys of one ms are in no order. OverflowError before 1970.
    """
    moment_ms = database_clock.now_ms() if now_ms is None else now_ms
    return uuid7(nanoseconds=moment_ms * _NANOSECONDS_PER_MS)


def execution_id(trigger_id: UUID, rank: int) -> UUID:
    """Make the id of a trigger's execution: the trigger's first 12 bytes, then the rank that tells
    its executions apart.

    It is the same however often it is made, so that a first claim that is lost in a crash sends the
    same `webhook-id` again (unless the purge removes an older action of its callback just then).
    """
    return UUID(int=trigger_id.int & ~_OWN_MASK | rank & _OWN_MASK)


def trigger_range(execution_id: UUID) -> tuple[UUID, UUID]:
    """Say between which ids, both included, the trigger of an execution lies.

    The two lie in one ms and so in one partition. Others may lie between them: match the id too.
    """
    return UUID(int=execution_id.int & ~_OWN_MASK), UUID(int=execution_id.int | _OWN_MASK)


def first_id_of(moment: datetime) -> UUID:
    """Give the bound below every key of that moment's ms: its 48 bits, then zeros (no UUIDv7
    itself).

    Before 1970 that is below every key there is. ValueError for a moment without a time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("A moment without a time zone names no key.")
    return UUID(int=max((moment - _EPOCH) // _MILLISECOND, 0) << 80)


def day_bounds(day: date) -> tuple[UUID, UUID]:
    """Give the ids between which the keys of a UTC day lie: the first included, the second not."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return first_id_of(midnight), first_id_of(midnight + _DAY)


def day_of(key: str) -> int:
    """Say of which UTC day a key is, as its text: days since 1970, of any 16 bytes."""
    return int(key[:8] + key[9:13], 16) // _DAY_MS


def ids_of_days(first: int, last: int) -> tuple[UUID, UUID]:
    """Give the lowest and the highest id of these days, counted from 1970, both included."""
    return UUID(int=first * _DAY_MS << 80), UUID(int=min(((last + 1) * _DAY_MS << 80) - 1, _LAST_ID))
