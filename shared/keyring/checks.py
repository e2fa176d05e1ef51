"""Whether a start has the keys that its database needs.

Invariants:

- `key_checks` has a row for each key before that key seals anything, and until nothing needs it any
  more. A start that lacks one of them is refused.
- A database without such rows, as an earlier version leaves it, is judged by what it holds: of the
  newest sealed texts in each column one at least must open. Where there are none, every key fits.
- Of two starts with different keys on a new database one is refused.

What callers sent judges nobody: in partitioned tables a text may only look as if it were sealed.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Any

from shared.crypto import SecretBox
from shared.errors import ConfigError
from shared.keyring.columns import sealed_columns
from shared.keyring.texts import name_of, read
from shared.postgres.connections import connect
from shared.postgres.fitness import explained

CALL_SECONDS = 10.0

# Of each column; a key that is lost costs what it sealed, and nothing else.
SAMPLE_ROWS = 100

FIXED_TEXT = "pointsman"

_IS_THERE = "SELECT to_regclass('key_checks') IS NOT NULL"
_ENTERED = "SELECT key_id, sealed FROM key_checks ORDER BY created_at, key_id"
_ENTER = "INSERT INTO key_checks (key_id, sealed) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_LEAVE = "DELETE FROM key_checks WHERE key_id = ANY(%s)"
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('pointsman.keys.enter', 0))"
_WITHOUT = """
SELECT DISTINCT host FROM workers WHERE NOT key_ids @> ARRAY[%s] AND heartbeat_at > now() - make_interval(secs => %s)
ORDER BY host
"""


def refuse_misfit(url: str, keys: str) -> None:
    """Raise ConfigError if these keys do not fit the database. Nothing is written."""
    with (
        explained(url),
        closing(connect(url, "start", call_seconds=CALL_SECONDS)) as connection,
        connection.cursor() as cursor,
    ):
        _judge(cursor, SecretBox(keys))


def examine(url: str, keys: str) -> None:
    """The same, and enter what is not entered yet: the key that will seal, and on a database of an
    earlier version those that were found to be needed.
    """
    box = SecretBox(keys)
    with (
        explained(url),
        closing(connect(url, "start", call_seconds=CALL_SECONDS)) as connection,
        connection.cursor() as cursor,
    ):
        needed = _judge(cursor, box)
        if _is_there(cursor) and box.newest not in {key for key, _ in entered(cursor)}:
            cursor.execute(_ALONE)
            needed |= _judge(cursor, box)  # others may have entered theirs meanwhile
            enter(cursor, [box.newest, *sorted(needed - {box.newest})], box)
        connection.commit()


def examine_entered(cursor: Any, box: SecretBox) -> None:
    """Raise ConfigError if one of the keys that were entered is missing."""
    missing = [key for key, sealed in entered(cursor) if box.open(sealed) is None]
    if missing:
        raise _misfit(missing, box)


def entered(cursor: Any) -> list[tuple[str, str]]:
    """The keys that a start must have: their ids, and a text under each. The oldest first."""
    cursor.execute(_ENTERED)
    return [(key, sealed) for key, sealed in cursor.fetchall()]


def enter(cursor: Any, keys: Collection[str], box: SecretBox) -> None:
    """From now on every start must have these keys, which are in the box."""
    for key in keys:
        cursor.execute(_ENTER, (key, box.encrypt_with(key, FIXED_TEXT)))


def leave(cursor: Any, keys: Collection[str]) -> None:
    """From now on no start needs these keys."""
    if keys:
        cursor.execute(_LEAVE, (sorted(keys),))


def workers_without(cursor: Any, key: str, stale_seconds: float) -> list[str]:
    """The hosts of living workers that do not know a key."""
    cursor.execute(_WITHOUT, (key, stale_seconds))
    return [host for (host,) in cursor.fetchall()]


def must_be_migrated(cursor: Any) -> None:
    """Raise ConfigError if nobody could enter a key."""
    if not _is_there(cursor):
        raise ConfigError(
            "The database is not up to date.", hint="Run `pointsman migrate`, or start it with `make run`."
        )


def _is_there(cursor: Any) -> bool:
    cursor.execute(_IS_THERE)
    return bool(cursor.fetchone()[0])


def _judge(cursor: Any, box: SecretBox) -> set[str]:
    """The keys that were found to be needed, by their ids; raises ConfigError for a misfit."""
    if _is_there(cursor):
        examine_entered(cursor, box)
        if known := {key for key, _ in entered(cursor)}:
            return known
    opened: set[str] = set()
    closed: set[str] = set()
    for column in sealed_columns(cursor):
        if not column.is_partitioned:
            for text in column.newest(cursor, SAMPLE_ROWS):
                reading = read(text, box, column.pattern)
                opened |= reading.opened.keys()
                closed |= {name_of(sealed) for sealed in reading.closed}
    if closed and not opened:
        raise _misfit(sorted(closed), box)
    return opened


def _misfit(missing: Collection[str], box: SecretBox) -> ConfigError:
    return ConfigError(
        f"The keys do not fit the database: it needs {', '.join(missing)}, and here"
        f" {'are' if len(box.key_ids) > 1 else 'is'} {', '.join(box.key_ids)}.",
        hint="Set POINTSMAN_SECRET_KEYS to the keys that sealed what the database holds, the newest first."
        " `make run` keeps them in the file secret_keys of its data folder. If they are lost for good,"
        " `pointsman keys forget` lets Pointsman start without them.",
    )
