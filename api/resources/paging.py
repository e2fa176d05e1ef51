"""Lists by keyset: newest first, by id, which holds the time.

Invariants: a page reads at most MAX_READ entries of each index that it walks, and what belongs to
them, whatever it looks for and however much there is. If it stops there, it answers what it has
found with `partial`, and the next page goes on where it stopped: nothing is left out, nothing comes
twice. That is so for work of one moment (api/work.py): the page and where it stops are two
questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Row, Select, literal_column, select, union_all
from sqlalchemy.orm import Session

MAX_READ = 20_000

# Mostly enough for a page; told a larger number, PostgreSQL would rather read and sort all of a
# small tenant's.
READ_FIRST = 500

# Of a UUIDv7, behind its ms.
_RANDOM_BITS = 80

Statement = Select[*tuple[Any, ...]]
"""A SELECT of any columns."""


def only(column: Any, value: Any) -> list[ColumnElement[bool]]:
    """Column = value, said as a range.

    With an equality PostgreSQL may as well walk an index of the ids alone and filter, through
    everybody's rows. Ordered by the column and the id, only the index of both serves.
    """
    return [column >= value, column <= value]


Expand = Callable[[FromClause], Statement]
"""Makes a list of something else from the entries that are wanted."""


@dataclass(frozen=True, slots=True)
class Source:
    """An index to walk from its newest entry on.

    entries: a SELECT of `id` and of what `conditions` look at, in the index's order, bounded by its
    own columns and by nothing else. conditions: which of these entries are wanted, given the
    columns of the SELECT. carried: columns that the list needs beside `id`.
    """

    entries: Statement
    conditions: Callable[[Any], list[ColumnElement[bool]]] = lambda _columns: []
    carried: tuple[str, ...] = ()

    def wanted(self, most: int) -> Statement:
        """What is wanted among so many entries."""
        read = self.entries.limit(most).subquery()
        columns = [read.c[name] for name in ("id", *self.carried)]
        statement: Statement = select(*columns).where(*self.conditions(read.c))
        return statement

    def end(self, session: Session, most: int) -> UUID | None:
        """Above which id so many entries are everything, None if there are no more.

        A bound between two ms, since the last entry itself may be another tenant's.
        """
        last = self.entries.offset(most - 1).limit(1).subquery()
        found: UUID | None = session.scalar(select(last.c.id))
        return None if found is None else UUID(int=((found.int >> _RANDOM_BITS) + 1) << _RANDOM_BITS)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one page.

    stopped_at: above which id everything was searched, although the page is not full.
    """

    rows: Sequence[Row[Any]]
    has_more: bool = False
    stopped_at: UUID | None = None

    @property
    def ids(self) -> list[UUID]:
        return [row.id for row in self.rows]

    @property
    def next_cursor(self) -> UUID | None:
        return self.stopped_at or (self.rows[-1].id if self.has_more else None)

    @property
    def is_partial(self) -> bool:
        return self.stopped_at is not None


def walk(
    session: Session,
    sources: Sequence[Source],
    limit: int,
    expand: Expand | None = None,
) -> Keys:
    """The newest `limit` keys that these sources have.

    expand: what is listed for the wanted entries, a SELECT of `id` and `entry`, the id of the entry
    that it belongs to, in the order of the list. By default the entries themselves.
    """
    keys = _search(session, sources, limit, expand, READ_FIRST)
    return keys if keys.stopped_at is None else _search(session, sources, limit, expand, MAX_READ)


def _search(
    session: Session, sources: Sequence[Source], limit: int, expand: Expand | None, most: int
) -> Keys:
    """The newest keys among so many entries of each source."""
    each = [source.wanted(most) for source in sources]
    merged = union_all(*each) if len(each) > 1 else each[0]
    found = merged.order_by(literal_column("id").desc()).subquery()
    statement = expand(found) if expand else _themselves(found)
    rows = session.execute(statement.limit(limit + 1)).all()
    if len(rows) > limit and len(sources) == 1:
        return Keys(rows[:limit], has_more=True)
    # of several sources one may end where another goes on: what lies behind the first end is for
    # the next page
    ends = [end for source in sources if (end := source.end(session, most)) is not None]
    stopped_at = max(ends, default=None)
    seen = [row for row in rows if stopped_at is None or row.entry >= stopped_at]
    if len(seen) > limit:
        return Keys(seen[:limit], has_more=True)
    return Keys(seen, stopped_at=stopped_at)


def _themselves(found: FromClause) -> Statement:
    statement: Statement = select(*found.c, found.c.id.label("entry"))
    return statement.order_by(found.c.id.desc())


def newest(rows: Sequence[Any], limit: int) -> tuple[Sequence[Any], UUID | None]:
    """A page and its next cursor, from rows of which one more than `limit` was asked for."""
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
