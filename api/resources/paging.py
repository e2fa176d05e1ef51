"""Lists by keyset: newest first, by id, which holds the time.

Invariant: a page reads at most MAX_READ entries of an index, whatever it looks for and however much there is. When it
stops there, it answers what it has found with `partial`, and the next page goes on where it stopped: nothing is left
out, nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Row, Select, literal_column, select, union_all
from sqlalchemy.orm import Session

MAX_READ = 20_000

_ID: ColumnElement[UUID] = literal_column("id")


Entries = Select[*tuple[Any, ...]]
"""A SELECT of any columns."""


@dataclass(frozen=True, slots=True)
class Source:
    """An index to read from its newest entry on.

    entries: a SELECT of `id` and of what `conditions` look at, bounded by the index's own columns and by nothing else.
    conditions: which of these entries are wanted, given the columns of the SELECT.
    """

    entries: Entries
    conditions: Callable[[Any], list[ColumnElement[bool]]] = lambda _columns: []

    def wanted(self) -> Select[Any]:
        """The ids that are wanted among the entries that a page may read."""
        read = self.entries.order_by(_ID.desc()).limit(MAX_READ).subquery()
        return select(read.c.id).where(*self.conditions(read.c))

    def last(self, session: Session) -> UUID | None:
        """The last entry that a page may read; None when it may read all."""
        beyond = self.entries.order_by(_ID.desc()).offset(MAX_READ - 1).limit(1).subquery()
        found: UUID | None = session.scalar(select(beyond.c.id))
        return found


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one page. stopped_at: the entry at which the search stopped although the page is not full."""

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
    def around(self) -> dict[str, Any]:
        """The fields of a page beside its items."""
        return {"next_cursor": self.next_cursor, "partial": self.stopped_at is not None}


def walk(
    session: Session,
    sources: Sequence[Source],
    limit: int,
    expand: Callable[[FromClause], Select[Any]] | None = None,
) -> Keys:
    """The newest `limit` keys that these sources have.

    expand: what is listed for each id of the sources, a SELECT of `id` and `walked` in the order of the list; by default
    the ids themselves.
    """
    merged = union_all(*(source.wanted() for source in sources)) if len(sources) > 1 else sources[0].wanted()
    found = merged.order_by(_ID.desc()).subquery()
    statement = expand(found) if expand else _themselves(found)
    rows = session.execute(statement.limit(limit + 1)).all()
    if len(rows) > limit and len(sources) == 1:
        return Keys(rows[:limit], has_more=True)
    # of several sources one may end where another goes on: what lies behind the first end is for the next page
    ends = [end for source in sources if (end := source.last(session)) is not None]
    stopped_at = max(ends, default=None)
    seen = [row for row in rows if stopped_at is None or row.walked >= stopped_at]
    if len(seen) > limit:
        return Keys(seen[:limit], has_more=True)
    return Keys(seen, stopped_at=stopped_at)


def _themselves(found: FromClause) -> Entries:
    statement: Entries = select(found.c.id, found.c.id.label("walked"))
    return statement.order_by(found.c.id.desc())


def newest(rows: Sequence[Any], limit: int) -> tuple[Sequence[Any], UUID | None]:
    """A page and its next cursor, from rows of which one more than `limit` was asked for."""
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
