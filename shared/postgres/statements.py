"""Statements of the hot path: planned once for each connection, and sent together if they can be.

For a small batch PostgreSQL takes longer to plan such a statement than to execute it, and each
round trip costs a thread its turn at the interpreter twice.

Invariants:

- What tell() leaves for later is sent, in order, with the next question or with COMMIT.
- Plans are made for any parameters and never read a whole table, so that a plan made while a table
  was empty serves it when it is full.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg2

from shared.postgres.connections import USELESS, OwnedConnection, WatchedConnection

PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

_PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True)
class Statement:
    """A statement with parameters $1, $2 … of these types.

    name: by which PostgreSQL knows its plan.
    """

    name: str
    types: str
    text: str

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


def make_ready(cursor: Any, statement: Statement) -> None:
    """Let PostgreSQL plan this statement, if it has not yet for this connection."""
    connection: WatchedConnection = cursor.connection
    if statement.name not in connection.prepared:
        cursor.execute(statement.preparation)
        connection.prepared.add(statement.name)


class Transaction:
    """A transaction on a connection in autocommit, begun with the first statement.

    Made by transaction().
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._waiting: list[bytes] = [b"BEGIN"]

    def tell(self, statement: Statement, *parameters: Any) -> None:
        """Run a statement whose answer nobody needs, at the latest with COMMIT."""
        make_ready(self._cursor, statement)
        self._waiting.append(self._cursor.mogrify(statement.call, parameters))

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
