"""The columns that hold sealed texts, read in portions and written back, whatever their tables are.

Invariants:

- A column is walked by the primary key of its table, so that no statement reads more than a portion
  and none of the days of a partitioned table is opened twice.
- A value is written only where it still is what was read: whatever a user changed meanwhile stays.
- Nobody is waited for. A row that somebody holds is left for later.
- Only the column changes. `updated_at` is the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg2 import sql

from shared.keyring.texts import NAMED, NAMED_OR_SECRET, NAMED_OR_WHOLE
from shared.models.sealed import SEALED

PORTION_ROWS = 500

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
_HOLDS_SOMETHING = "({0}::text LIKE '%%sealed:%%' OR {0}::text LIKE '%%gAAAAA%%')"
_PORTION = """
SELECT {key}, CASE WHEN {holds_something} THEN {column}::text END
FROM {table} {behind} ORDER BY {key} LIMIT %s
"""
_NEWEST = """
SELECT {column}::text FROM {table} WHERE {holds_something} {not_deleted} ORDER BY {descending} LIMIT %s
"""
# The bounds keep a partitioned table's other days out of the plan.
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


class Value(NamedTuple):
    """A row's value, as text; None if it holds nothing sealed."""

    key: Key
    text: str | None


class Renewal(NamedTuple):
    """What a row's value was, and what it is to be."""

    key: Key
    was: str
    becomes: str


@dataclass(frozen=True)
class SealedColumn:
    """A column of the registry as this database has it.

    key: the columns of the primary key, with their types. is_partitioned: it then also holds what
    callers sent. rows: about how many its table has.
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

    def portion(self, cursor: Any, after: Key | None, rows: int = PORTION_ROWS) -> list[Value]:
        """The next rows behind a key, from the first one on when there is none."""
        behind = sql.SQL("")
        if after is not None:
            marks = sql.SQL(", ").join([sql.Placeholder()] * len(self.key))
            behind = sql.SQL("WHERE ({}) > ({})").format(self._names(), marks)
        cursor.execute(self._composed(_PORTION, behind=behind), (*(after or ()), rows))
        return [Value(tuple(map(str, row[:-1])), row[-1]) for row in cursor.fetchall()]

    def newest(self, cursor: Any, rows: int) -> list[str]:
        """The newest values that hold something sealed, but of what was deleted."""
        cursor.execute(self._composed(_NEWEST), (rows,))
        return [text for (text,) in cursor.fetchall()]

    def write(self, cursor: Any, renewals: Sequence[Renewal]) -> int:
        """Write values that are still what they were; how many that are. They are in the order of
        their keys.
        """
        keys = [list(parts) for parts in zip(*(renewal.key for renewal in renewals), strict=True)]
        bounds = (keys[0][0], keys[0][-1])
        texts = [renewal.was for renewal in renewals], [renewal.becomes for renewal in renewals]
        cursor.execute(self._composed(_WRITE), (*keys, *texts, *bounds, *bounds))
        return int(cursor.rowcount)

    def _composed(self, text: str, **more: sql.Composable) -> sql.Composed:
        names = [sql.Identifier(name) for name, _ in self.key]
        matches = [sql.SQL("t.{0} = g.{0}").format(name) for name in names]
        return sql.SQL(text).format(
            table=sql.Identifier(self.table),
            column=sql.Identifier(self.column),
            type=sql.SQL(self.type),
            holds_something=sql.SQL(_HOLDS_SOMETHING).format(sql.Identifier(self.column)),
            key=self._names(),
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
