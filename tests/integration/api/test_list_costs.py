"""What a page reads, counted by PostgreSQL: nothing of other tenants' history, however much of it is newer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from api.resources import executions, logs, triggers
from api.resources.executions import ExecutionQuery
from api.resources.logs import LogQuery
from api.resources.triggers import TriggerQuery
from api.work import Work, Workshop
from shared import db
from shared.config import Settings
from shared.db import make_engine
from tests.history import fill
from tests.rows import Rows

OTHERS = 60_000
OWN = 3_000
FEW_ROWS = 1_500  # a page of 50 with what belongs to it, from three tables, twice over and more
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILED")

_READ = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables
WHERE relname ~ '^(runs|triggers|logs|action_executions|stored_items)'
"""


class Neighbours:
    """A tenant with OWN triggers of yesterday and of today's first part, and one with OTHERS, all of them newer or as new."""

    def __init__(self, database_url: str) -> None:
        self.connection = db.connect(database_url, "test", call_seconds=120, autocommit=True)
        self.cursor = self.connection.cursor()
        rows = Rows(self.cursor)
        mine, other = rows.insert("callbacks"), rows.insert("callbacks")
        self.owner, self.callback = UUID(mine["user_id"]), UUID(mine["id"])
        action = rows.insert("actions", callback_id=mine["id"], user_id=mine["user_id"])
        self.action = UUID(action["id"])
        others_action = rows.insert("actions", callback_id=other["id"], user_id=other["user_id"])
        fill(self.cursor, self.callback, self.owner, self.action, OWN, days_ago=1)
        fill(self.cursor, self.callback, self.owner, self.action, OWN, days_ago=0)
        self.cursor.execute("UPDATE logs SET success = false WHERE random() < 0.05")
        for days_ago in (1, 0):
            fill(self.cursor, other["id"], other["user_id"], others_action["id"], OTHERS, days_ago=days_ago)
        # the newest of the day are all the neighbour's: a walk over everybody's ids would have to pass them
        newest = "(SELECT id FROM triggers ORDER BY id DESC LIMIT %s)"
        self.cursor.execute(
            f"DELETE FROM action_executions WHERE user_id = %s AND trigger_id IN {newest}",
            (self.owner, OTHERS),
        )
        self.cursor.execute(f"DELETE FROM logs WHERE user_id = %s AND id IN {newest}", (self.owner, OTHERS))
        self.cursor.execute(
            f"DELETE FROM triggers WHERE user_id = %s AND id IN {newest}", (self.owner, OTHERS)
        )
        self.cursor.execute("VACUUM (ANALYZE)")

    def rows_read(self) -> int:
        self.cursor.execute("SELECT pg_stat_clear_snapshot()")
        self.cursor.execute(_READ)
        found: int = self.cursor.fetchone()[0]
        return found


@pytest.fixture(scope="module")
def neighbours(database_url: str) -> Neighbours:
    return Neighbours(database_url)


def pages(near: Neighbours) -> dict[str, Callable[[Work, UUID | None], Any]]:
    """Every list of what has happened with each filter, by name."""
    found: dict[str, Callable[[Work, UUID | None], Any]] = {}
    for status in (None, *STATUSES):
        for of_callback in ({}, {"callback_id": near.callback}):
            query = TriggerQuery.model_validate({"status": status, **of_callback})
            found[f"triggers {status} {list(of_callback)}"] = _triggers(near, query)
        for of_action in ({}, {"action_id": near.action}):
            asked = ExecutionQuery.model_validate({"status": status, **of_action})
            # no failed trigger here has a failed execution: all are looked at, which is what a page may do
            if status != "FAILED":
                found[f"executions {status} {list(of_action)}"] = _executions(near, asked)
    for success in (None, True, False):
        found[f"logs {success}"] = _logs(near, success)
    return found


def _triggers(near: Neighbours, query: TriggerQuery) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: triggers.page(work, near.owner, query.model_copy(update={"cursor": cursor}))


def _executions(near: Neighbours, query: ExecutionQuery) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: executions.page(work, near.owner, query.model_copy(update={"cursor": cursor}))


def _logs(near: Neighbours, success: bool | None) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: logs.page(
        work, near.owner, near.callback, LogQuery(success=success, cursor=cursor)
    )


def test_a_page_reads_its_own_rows(neighbours: Neighbours, database_url: str) -> None:
    """Fails when a list walks everybody's ids, joins a whole table, or fetches its rows through a range of ids."""
    engine = make_engine(database_url, "test", pool_size=1)
    shop = Workshop(engine, Settings())
    cost: dict[str, int] = {}
    for name, page in pages(neighbours).items():
        cursor = None
        for number in (1, 2):
            before = neighbours.rows_read()
            with shop.open(one_moment=True) as work:
                shown = page(work, cursor)
                cursor = shown.next_cursor
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            cost[f"{name}, page {number}"] = neighbours.rows_read() - before
    engine.dispose()
    assert {name: rows for name, rows in cost.items() if rows > FEW_ROWS} == {}
    assert max(cost.values()) > 50, "the count sees what is read"
