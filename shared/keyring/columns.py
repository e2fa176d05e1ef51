"""The columns that hold sealed texts, read in portions and written back, whatever their tables are.

Invariants:

- A column is walked by the primary key of its table, so that no statement looks at more than a
  portion, and none of the days of a partitioned table is opened twice.
- However long the values are that users have stored, no more than CHUNK_BYTES are read or written
  at once, or a single value.
- A value is written only where it still is what was read: whatever a user changed meanwhile stays.
- Nobody is waited for. A row that somebody holds is left for later.
- Only the column changes. `updated_at` is the user's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg2 import sql

from shared.keyring.places import PLACES
from shared.keyring.texts import NAMED, NAMED_OR_SECRET, NAMED_OR_WHOLE
from shared.models.sealed import SEALED

PORTION_ROWS = 500

# A statement writes a value as it was and as it becomes; PostgreSQL takes none of a gigabyte.
CHUNK_BYTES = 4 * 1024 * 1024

WRITTEN_ONCE = frozenset([("triggers", "headers")])
"""Columns that nobody but a rotation changes, of tables whose keys have the time in them."""

SIGNING_SECRETS = ("callbacks", "signing_secrets")
"""The one JSON column in which an earlier version wrote ciphertexts without the id of a key."""

_DESCRIBE = """
SELECT format_type(a.atttypid, NULL), c.relkind = 'p',
  EXISTS (SELECT 1 FROM pg_attribute d WHERE d.attrelid = c.oid AND d.attname = 'deleted_at' AND NOT d.attisdropped),
  (SELECT array_agg(ARRAY[k.attname::text, format_type(k.atttypid, NULL)] ORDER BY array_position(i.indkey::int2[], k.attnum))
   FROM pg_index i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = ANY(i.indkey::int2[])
   WHERE i.indrelid = c.oid AND i.indisprimary),
  (SELECT coalesce(sum(greatest(p.reltuples, 0)), 0)::bigint FROM pg_class p WHERE p.relkind = 'r'
   AND (p.oid = c.oid OR p.oid IN (SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = c.oid)))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND NOT a.attisdropped
WHERE c.oid = to_regclass(%s)
"""
_HOLDS_SOMETHING = "{0}::text LIKE '%%sealed:%%'"
_OR_BARE = " OR {0}::text LIKE '%%gAAAAA%%'"
# Each text is made once, and stays where it is.
_PORTION = """
SELECT {names}, CASE WHEN {holds_something} THEN octet_length({column}) END
FROM (SELECT {names}, {column}::text AS {column} FROM {table} {stretch} ORDER BY {names} LIMIT %s) portion ORDER BY {names}
"""
# Here and below, the bounds keep a partitioned table's other days out of the plan.
_READ = """
SELECT {ours}, {kind}, t.{column}::text
FROM {table} t JOIN unnest({arrays}) AS g({names}) ON {matches}
WHERE t.{first} BETWEEN %s AND %s AND t.{column} IS NOT NULL ORDER BY {ours}
"""
_NEWEST = """
SELECT {column}::text FROM {table} WHERE {holds_something} {not_deleted} ORDER BY {descending} LIMIT %s
"""
_WRITE = """
WITH given AS (SELECT * FROM unnest({arrays}, %s::text[], %s::text[]) AS g({names}, was, becomes)),
held AS (
  SELECT {ours} FROM {table} t JOIN given g ON {matches}
  WHERE t.{column} = g.was::{type} AND t.{first} BETWEEN %s AND %s
  FOR NO KEY UPDATE OF t SKIP LOCKED)
UPDATE {table} t SET {column} = g.becomes::{type} FROM given g JOIN held USING ({names})
WHERE {matches} AND t.{column} = g.was::{type} AND t.{first} BETWEEN %s AND %s
"""

Key = tuple[str, ...]
"""The primary key of a row, each part as text."""


class Length(NamedTuple):
    """How long a row's value is, as text, in bytes; None if it holds nothing sealed."""

    key: Key
    octets: int | None


class Value(NamedTuple):
    """A row's value, as text. kind: of which kind the row is, if that matters."""

    key: Key
    kind: str
    text: str


class Renewal(NamedTuple):
    """What a row's value was, and what it is to be."""

    key: Key
    was: str
    becomes: str


@dataclass(frozen=True)
class SealedColumn:
    """A column of the registry as this database has it.

    key: the columns of the primary key, with their types. rows: about how many its table has.
    """

    table: str
    column: str
    type: str
    is_partitioned: bool
    is_marked: bool
    key: tuple[tuple[str, str], ...]
    rows: int

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a sealed text looks like in it."""
        if (self.table, self.column) == SIGNING_SECRETS:
            return NAMED_OR_SECRET
        return NAMED_OR_WHOLE if self.type == "text" else NAMED

    @property
    def is_written_once(self) -> bool:
        return (self.table, self.column) in WRITTEN_ONCE

    def is_ours(self, value: Value) -> Callable[[str], bool]:
        """Says whether what looks sealed in a value was sealed here; else somebody wrote it."""
        places = PLACES.get((self.table, self.column))
        texts = None if places is None else places.texts(value.kind, value.text)
        return lambda sealed: texts is None or sealed in texts

    def portion(
        self, cursor: Any, after: Key | None, until: Key | None = None, rows: int = PORTION_ROWS
    ) -> list[Length]:
        """The next rows behind a key and before another one; from the first and to the last one
        where there is none.
        """
        bounds = [(sign, key) for sign, key in ((">", after), ("<", until)) if key is not None]
        marks = sql.SQL(", ").join([sql.Placeholder()] * len(self.key))
        conditions = [
            sql.SQL("({}) {} ({})").format(self._names(), sql.SQL(sign), marks) for sign, _ in bounds
        ]
        stretch = sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions)) if bounds else sql.SQL("")
        parameters = [part for _, key in bounds for part in key]
        cursor.execute(self._composed(_PORTION, stretch=stretch), (*parameters, rows))
        return [Length(tuple(map(str, row[:-1])), row[-1]) for row in cursor.fetchall()]

    def read(self, cursor: Any, keys: Sequence[Key]) -> list[Value]:
        """The values of these rows, of those that are still there, in the order of their keys."""
        cursor.execute(self._composed(_READ), (*_arrays(keys), *_bounds(keys)))
        return [Value(tuple(map(str, row[:-2])), *row[-2:]) for row in cursor.fetchall()]

    def newest(self, cursor: Any, rows: int) -> list[str]:
        """The newest values that hold something sealed, but of what was deleted."""
        cursor.execute(self._composed(_NEWEST), (rows,))
        return [text for (text,) in cursor.fetchall()]

    def write(self, cursor: Any, renewals: Sequence[Renewal]) -> int:
        """Write values that are still what they were; how many that are. They are in the order of
        their keys.
        """
        keys = [renewal.key for renewal in renewals]
        texts = [renewal.was for renewal in renewals], [renewal.becomes for renewal in renewals]
        bounds = _bounds(keys)
        cursor.execute(self._composed(_WRITE), (*_arrays(keys), *texts, *bounds, *bounds))
        return int(cursor.rowcount)

    def _composed(self, text: str, **more: sql.Composable) -> sql.Composed:
        names = [sql.Identifier(name) for name, _ in self.key]
        matches = [sql.SQL("t.{0} = g.{0}").format(name) for name in names]
        looks_sealed = _HOLDS_SOMETHING if self.pattern is NAMED else _HOLDS_SOMETHING + _OR_BARE
        places = PLACES.get((self.table, self.column))
        return sql.SQL(text).format(
            table=sql.Identifier(self.table),
            column=sql.Identifier(self.column),
            type=sql.SQL(self.type),
            holds_something=sql.SQL(f"({looks_sealed})").format(sql.Identifier(self.column)),
            kind=sql.SQL("t.{}::text").format(sql.Identifier(places.kind))
            if places and places.kind
            else sql.SQL("''"),
            names=self._names(),
            first=names[0],
            ours=sql.SQL(", ").join(sql.SQL("t.{}").format(name) for name in names),
            matches=sql.SQL(" AND ").join(matches),
            arrays=sql.SQL(", ").join(sql.SQL(f"%s::{kind}[]") for _, kind in self.key),
            descending=sql.SQL(", ").join(sql.SQL("{} DESC").format(name) for name in names),
            not_deleted=sql.SQL("AND deleted_at IS NULL" if self.is_marked else ""),
            **more,
        )

    def _names(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(name) for name, _ in self.key)


def sealed_columns(cursor: Any) -> Iterator[SealedColumn]:
    """Those of the registry that this database has; an older schema has fewer."""
    for table, column in SEALED:
        cursor.execute(_DESCRIBE, (column, table))
        found = cursor.fetchone()
        if found is not None:
            kind, is_partitioned, is_marked, key, rows = found
            yield SealedColumn(table, column, kind, is_partitioned, is_marked, tuple(map(tuple, key)), rows)


def chunks(lengths: Sequence[Length]) -> Iterator[list[Key]]:
    """The keys of the rows that hold something, in portions of at most CHUNK_BYTES or one row."""
    keys: list[Key] = []
    octets = 0
    for one in lengths:
        if one.octets is None:
            continue
        if keys and octets + one.octets > CHUNK_BYTES:
            yield keys
            keys, octets = [], 0
        keys.append(one.key)
        octets += one.octets
    if keys:
        yield keys


def _arrays(keys: Sequence[Key]) -> list[list[str]]:
    return [list(parts) for parts in zip(*keys, strict=True)]


def _bounds(keys: Sequence[Key]) -> tuple[str, str]:
    """The lowest and the highest first part of keys that are in their order."""
    return keys[0][0], keys[-1][0]
