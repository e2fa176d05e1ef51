"""Statements that are planned once, and transactions of them, on a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import ModuleType

import psycopg2
import pytest

from api.ingress import record
from shared.ids import new_id
from shared.postgres.connections import OwnedConnection
from shared.postgres.group_commit import GroupCommit
from shared.postgres.statements import PLANNED_ONCE, Statement, by_number, make_ready, transaction
from shared.runs import claim as claims
from shared.runs import enter, fence, settle
from tests.loops import later
from tests.world import World
from worker.engine import claim, journal, rows

MODULES: tuple[ModuleType, ...] = (record, claim, claims, enter, fence, journal, rows, settle)
STATEMENTS = {
    value.name: value for module in MODULES for value in vars(module).values() if isinstance(value, Statement)
}
SAMPLES = {"uuid": str(new_id()), "int": 0, "float8": 0.0, "text": ""}

NAME = Statement("name", "text, uuid[]", "UPDATE callbacks SET name = $1 WHERE id = ANY($2)")
NAMES = Statement("names", "uuid[]", "SELECT name FROM callbacks WHERE id = ANY($1)")
BROKEN = Statement("broken", "int", "SELECT 1 / $1")


@pytest.fixture
def owned(world: World) -> Iterator[OwnedConnection]:
    owned = OwnedConnection(
        world.database_url, "test", call_seconds=5, autocommit=True, settings=PLANNED_ONCE
    )
    yield owned
    owned.close()


def name_of(world: World) -> str:
    return str(world.ask("SELECT name FROM callbacks WHERE id = %s", world.callback_id)[0][0])


def test_what_was_told_is_there_for_the_next_question_and_for_nobody_else_before_the_commit(
    world: World, owned: OwnedConnection
) -> None:
    before, ids = name_of(world), f"{{{world.callback_id}}}"
    with transaction(owned) as statements:
        statements.tell(NAME, "first", ids)
        statements.tell(NAME, "second", ids)
        assert statements.ask(NAMES, ids) == [("second",)]
        statements.tell(NAME, "third", ids)
        assert name_of(world) == before
    assert name_of(world) == "third"


def test_an_error_undoes_the_batch_and_leaves_the_connection_usable(
    world: World, owned: OwnedConnection
) -> None:
    before, ids = name_of(world), f"{{{world.callback_id}}}"
    pid = owned.get().info.backend_pid

    def told_then_broken() -> None:
        with transaction(owned) as statements:
            statements.tell(NAME, "lost", ids)
            statements.tell(BROKEN, 0)

    with pytest.raises(psycopg2.errors.DivisionByZero):
        told_then_broken()
    with pytest.raises(psycopg2.errors.DivisionByZero):
        told_then_broken()  # what was prepared by a transaction that failed is prepared still
    assert name_of(world) == before
    with transaction(owned) as statements:
        assert statements.ask(NAMES, ids) == [(before,)]
    assert owned.get().info.backend_pid == pid


def test_a_new_connection_prepares_anew(world: World, owned: OwnedConnection) -> None:
    for _ in range(2):
        with transaction(owned) as statements:
            assert statements.ask(NAMES, f"{{{world.callback_id}}}") == [(name_of(world),)]
        owned.lost()


@pytest.fixture
def migrated(world: World) -> Iterator[str]:
    """A table whose one column changes its type."""
    world.cursor.execute("CREATE TABLE migrated (n int); INSERT INTO migrated VALUES (7)")
    yield "ALTER TABLE migrated ALTER n TYPE text"
    world.cursor.execute("DROP TABLE migrated")


def test_a_migration_under_a_running_process_costs_a_batch_one_repetition(
    world: World, owned: OwnedConnection, migrated: str
) -> None:
    """Fails when a connection keeps a plan that no longer fits: each batch would fail until the
    process ends.
    """
    numbers = Statement("numbers", "text", "SELECT n FROM migrated WHERE $1 <> ''")

    def flush(rows: Sequence[str]) -> list[object]:
        with transaction(owned) as statements:
            return [statements.ask(numbers, row)[0][0] for row in rows]

    writer: GroupCommit[str, object] = GroupCommit(
        "test", flush, max_batch_rows=1, max_batch_bytes=1, max_queue_rows=9, max_queue_bytes=99
    )
    writer.start()
    assert later(writer.submit, "before", 1).result(10) == 7
    world.cursor.execute(migrated)
    assert later(writer.submit, "after", 1).result(10) == "7"
    writer.stop()


def test_a_statement_means_the_same_without_a_plan(world: World) -> None:
    ids = f"{{{world.callback_id}}}"
    world.cursor.execute(NAME.plain, by_number(("plain", ids)))
    world.cursor.execute(NAMES.plain, by_number((ids,)))
    assert world.cursor.fetchall() == [("plain",)]


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_plan_made_while_tables_were_empty_reads_none_as_a_whole(owned: OwnedConnection, name: str) -> None:
    """Fails when a plan would walk over a table, which is cheapest as long as there is nothing in
    it, or over a list for each row.
    """
    statement = STATEMENTS[name]
    samples = [
        f"{{{SAMPLES[kind[:-2]]}}}"
        if kind.endswith("[]") and kind[:-2] in SAMPLES
        else SAMPLES.get(kind, "{}")
        for kind in statement.types.split(", ")
    ]
    with owned.get().cursor() as cursor:
        (statement,) = statement.about(samples)
        make_ready(cursor, statement)
        cursor.execute(f"EXPLAIN {statement.call}", samples)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert not re.search("Seq Scan|Join Filter", plan), plan
