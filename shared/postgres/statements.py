"""Statements of the hot path: planned once for each connection, and sent together if they can be.

For a small batch PostgreSQL takes longer to plan such a statement than to execute it, and each
round trip costs a thread its turn at the interpreter twice.

Invariants:

- What tell() leaves for later is sent, in order, with the next question or with COMMIT.
- Plans are made for any parameters and never read a whole table, so that a plan made while a table
  was empty serves it when it is full.
- A plan for a partitioned table names the days that it is about as constants, or the partition
  itself. PostgreSQL then leaves the other partitions out of the plan. With the days as parameters
  it would open and lock every partition at each execution, and only then leave them out.
- Of two lists neither is walked for each element of the other.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import psycopg2

from shared.ids import day_of, ids_of_days
from shared.postgres.connections import USELESS, OwnedConnection, WatchedConnection
from shared.postgres.partitions import partition_of_day

PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

# So many plans of one statement are kept on a connection, each for other days. A batch is mostly
# about today, or about today and a day or two before it.
MAX_PLANS = 8

_PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True)
class Statement:
    """A statement with parameters $1, $2 … of these types.

    name: by which PostgreSQL knows its plan. keys: the number of the parameter that holds the
    triggers' ids, as an array's text; 0 if the statement reads and changes no partition. With it
    the text says `BETWEEN $first AND $last` of each partitioned table, and there is a plan for each
    range of days. table: then the text names `$partition` instead, and there is a plan for each
    day; it runs once for each day of the ids, and has no answer. family: what the plans of one
    statement have in common.
    """

    name: str
    types: str
    text: str
    keys: int = 0
    table: str = ""
    family: str = ""

    def about(self, parameters: Sequence[Any]) -> list[Statement]:
        """This statement for the days of the triggers that these parameters name."""
        if not self.keys:
            return [self]
        ids = parameters[self.keys - 1][1:-1].split(",")
        first, last = (day_of(min(ids)), day_of(max(ids))) if ids[0] else (0, 0)
        if not self.table or first == last:
            return [_of_days(self, first, last)]
        return [_of_days(self, day, day) for day in sorted({day_of(one) for one in ids})]

    @cached_property
    def preparation(self) -> str:
        return f"PREPARE {self.name} ({self.types}) AS {self.text}"

    @cached_property
    def call(self) -> str:
        count = self.types.count(",") + 1
        return f"EXECUTE {self.name} ({', '.join(['%s'] * count)})"

    @cached_property
    def plain(self) -> str:
        """Its text for a cursor that has not prepared it and gets the parameters from
        by_number().
        """
        types = [one.strip() for one in self.types.split(",")]
        return _PARAMETER.sub(lambda found: f"%({found[1]})s::{types[int(found[1]) - 1]}", self.text)


def by_number(parameters: Sequence[Any]) -> dict[str, Any]:
    """Parameters for a statement's plain text."""
    return {str(number): value for number, value in enumerate(parameters, 1)}


@lru_cache(maxsize=256)
def _of_days(statement: Statement, first: int, last: int) -> Statement:
    """A statement about these days, both included, counted from 1970."""
    if statement.table:
        text = statement.text.replace("$partition", partition_of_day(statement.table, first))
    else:
        lowest, highest = ids_of_days(first, last)
        text = statement.text.replace("$first", f"'{lowest}'").replace("$last", f"'{highest}'")
    return Statement(f"{statement.name}_{first}_{last}", statement.types, text, family=statement.name)


def make_ready(cursor: Any, statement: Statement) -> None:
    """Let PostgreSQL plan this statement, if it has not yet for this connection.

    Beyond MAX_PLANS of its family, the plan that was not used for longest goes.
    """
    connection: WatchedConnection = cursor.connection
    names = connection.prepared.setdefault(statement.family or statement.name, [])
    if names and names[-1] == statement.name:
        return
    if statement.name in names:
        names.remove(statement.name)
    else:
        if len(names) >= MAX_PLANS:
            cursor.execute(f"DEALLOCATE {names[0]}")
            del names[0]
        cursor.execute(statement.preparation)
    names.append(statement.name)


class Transaction:
    """A transaction on a connection in autocommit, begun with the first statement.

    Made by transaction().
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._waiting: list[bytes] = [b"BEGIN"]

    def tell(self, statement: Statement, *parameters: Any) -> None:
        """Run a statement whose answer nobody needs, at the latest with COMMIT."""
        for number, one in enumerate(statement.about(parameters)):
            if number and number % MAX_PLANS == 0:
                self._send()  # before the plans of those that wait make room for others
            make_ready(self._cursor, one)
            self._waiting.append(self._cursor.mogrify(one.call, parameters))

    def ask(self, statement: Statement, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        self.tell(statement, *parameters)
        self._send()
        return list(self._cursor.fetchall())

    def execute(self, text: str, parameters: Any = None) -> None:
        """Run any other statement, as a cursor would; fetchone() and fetchall() give its rows."""
        self._waiting.append(self._cursor.mogrify(text, parameters))
        self._send()

    def fetchone(self) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._cursor.fetchall())

    def commit(self) -> None:
        self._waiting.append(b"COMMIT")
        self._send()

    def _send(self) -> None:
        text, self._waiting = b"; ".join(self._waiting), []
        self._cursor.execute(text)


@contextlib.contextmanager
def transaction(owned: OwnedConnection) -> Iterator[Transaction]:
    """A transaction on a connection that was made with autocommit; it commits at the end.

    Any error rolls back; a connection that was lost, whose plans no longer fit, or whose rollback
    fails, is dropped.
    """
    connection = owned.get()
    try:
        with connection.cursor() as cursor:
            made = Transaction(cursor)
            yield made
            made.commit()
    except USELESS:
        owned.lost()
        raise
    except BaseException:
        try:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        except psycopg2.Error:
            owned.lost()
        raise
