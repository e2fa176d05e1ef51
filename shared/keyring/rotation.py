"""The rotation: everything that is sealed comes under the newest key, beside the traffic.

Invariants:

- A portion of one column is one statement that commits by itself. What is under the newest key is
  passed over, so that a rotation that was cut off is simply repeated.
- It goes round until a round finds nothing to renew. What it then says was counted in that round.
- No key is taken from anybody: the rows of key_checks that nothing needs any more go last.
- One rotation at a time, and none that a living worker could not follow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.crypto import SecretBox
from shared.errors import ConfigError, Unavailable
from shared.keyring import checks
from shared.keyring.columns import PORTION_ROWS, Renewal, SealedColumn, Value, sealed_columns
from shared.keyring.texts import UNNAMED, ValueReading, read
from shared.postgres.connections import connect
from shared.postgres.fitness import explained

CALL_SECONDS = 30.0

# A row that somebody holds is looked at again, as long as anything else moves, and then so long.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.5

# So many rows with what no key opens are named, of each column.
NAMED_ROWS = 10

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('pointsman.keys.rotate', 0))"


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """How far a round is. rows: that its table has, about; renewed: values, in this round."""

    number: int
    column: str
    read: int
    rows: int
    renewed: int
    is_over: bool = False


Told = Callable[[RoundProgress], None]


@dataclass(slots=True)
class Survey:
    """What one round has found.

    opened: how many sealed texts each key opens, by its id and the column; closed: how many none
    opens, by the id that they name and the column. rows: where these are, by the column: the first
    part of the row's key. foreign: the columns in which a text that no key opens may be a caller's
    own. renewed: values that were written; left: values that somebody held or changed meanwhile.
    """

    opened: Counter[tuple[str, str]] = field(default_factory=Counter)
    closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: dict[str, list[str]] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    renewed: int = 0
    left: int = 0

    def values_of(self, key: str, box: SecretBox) -> dict[str, int]:
        """How many sealed texts need a key, by column."""
        found = self.opened if key in box.key_ids else self._lost()
        return {column: count for (one, column), count in found.items() if one == key}

    def missing(self, box: SecretBox) -> set[str]:
        """The keys, by their ids, that something needs and the box does not have."""
        return {key for key, _ in self._lost()} - {*box.key_ids, UNNAMED}

    def needed(self, box: SecretBox) -> set[str]:
        """The keys, by their ids, that are needed: to seal, to open, or to open what is closed."""
        return {box.newest, *self.missing(box), *(key for key, _ in self.opened)}

    @property
    def unreadable(self) -> int:
        """How many sealed texts no key opens, but those that may be a caller's own."""
        return sum(self._lost().values())

    def _lost(self) -> dict[tuple[str, str], int]:
        """What is closed, and was sealed here for sure."""
        return {one: count for one, count in self.closed.items() if one[1] not in self.foreign}


def survey(url: str, box: SecretBox, told: Told = lambda _progress: None) -> Survey:
    """Read everything that is sealed; nothing changes."""
    with _session(url) as cursor:
        return _round(cursor, box, 1, told, writes=False)


def rotate(
    url: str,
    box: SecretBox,
    stale_seconds: float,
    told: Told = lambda _progress: None,
    pause: Callable[[float], None] = time.sleep,
) -> Survey:
    """Bring everything under the newest key; what is there then.

    stale_seconds: after which a worker without a heartbeat is dead. ConfigError if a living worker
    does not know the newest key; Unavailable if another rotation is under way.
    """
    with _session(url) as cursor:
        cursor.execute(_TRY_LOCK)
        if not cursor.fetchone()[0]:
            raise Unavailable("Another rotation is under way.", hint="Wait for its end, then look again.")
        _refuse_unknown(cursor, box, stale_seconds)
        checks.enter(cursor, [box.newest], box)
        found = _renew_all(cursor, box, told, pause)
        checks.leave(cursor, {key for key, _ in checks.entered(cursor)} - found.needed(box))
        return found


def _renew_all(cursor: Any, box: SecretBox, told: Told, pause: Callable[[float], None]) -> Survey:
    """Go round until nothing is left to renew, or what is left stays held."""
    number, renewed, moved_at = 0, 0, time.monotonic()
    while True:
        number += 1
        found = _round(cursor, box, number, told, writes=True)
        renewed += found.renewed
        if found.renewed:
            moved_at = time.monotonic()
        elif not found.left or time.monotonic() - moved_at > PATIENCE_SECONDS:
            found.renewed = renewed
            return found
        else:
            pause(PAUSE_SECONDS)


def _round(cursor: Any, box: SecretBox, number: int, told: Told, *, writes: bool) -> Survey:
    """Once through every column."""
    found = Survey()
    for column in sealed_columns(cursor):
        if column.is_partitioned:
            found.foreign.add(column.name)
        before, done, after = found.renewed, 0, None
        while True:
            values = column.portion(cursor, after)
            renewals = [one for value in values for one in _look(value, column, box, found)]
            if writes and renewals:
                written = column.write(cursor, renewals)
                found.renewed += written
                found.left += len(renewals) - written
            done += len(values)
            is_over = len(values) < PORTION_ROWS
            rows = max(done, column.rows)
            told(RoundProgress(number, column.name, done, rows, found.renewed - before, is_over))
            if is_over:
                break
            after = values[-1].key
    return found


def _look(value: Value, column: SealedColumn, box: SecretBox, found: Survey) -> Iterator[Renewal]:
    """Count what a value holds; its renewal, if it needs one."""
    if value.text is None:
        return
    reading = read(value.text, box, column.pattern)
    _count(reading, value, column, found)
    if reading.text != value.text:
        yield Renewal(value.key, value.text, reading.text)


def _count(reading: ValueReading, value: Value, column: SealedColumn, found: Survey) -> None:
    for key, count in reading.opened.items():
        found.opened[key, column.name] += count
    for key, count in reading.closed.items():
        found.closed[key, column.name] += count
    rows = found.rows.setdefault(column.name, [])
    if reading.closed and len(rows) < NAMED_ROWS:
        rows.append(value.key[0])


def _refuse_unknown(cursor: Any, box: SecretBox, stale_seconds: float) -> None:
    """Raise ConfigError if a living worker could not open what the newest key seals."""
    hosts = checks.workers_without(cursor, box.newest, stale_seconds)
    if hosts:
        raise ConfigError(
            f"Key {box.newest} is unknown to a worker on {', '.join(hosts)}:"
            " it could not open what is sealed with it.",
            hint="Give POINTSMAN_SECRET_KEYS, with all its keys, to every API and worker process and start"
            " them again. Then rotate. A worker that was killed counts as dead after a few seconds.",
        )


@contextmanager
def _session(url: str) -> Iterator[Any]:
    """A cursor each of whose statements commits by itself."""
    with (
        explained(url),
        closing(connect(url, "keys", call_seconds=CALL_SECONDS, autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        checks.must_be_migrated(cursor)
        yield cursor
