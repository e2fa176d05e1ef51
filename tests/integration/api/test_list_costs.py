"""What a page reads, counted by PostgreSQL in pages of its own: nothing of other tenants' history,
however much there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from api.resources import executions, logs, triggers
from api.resources.executions import ExecutionQuery
from api.resources.logs import LogQuery
from api.resources.triggers import TriggerQuery
from api.work import Work, Workshop
from shared.config import Settings
from shared.postgres import connections
from shared.postgres.connections import open_database
from tests.history import fill
from tests.rows import Rows

OTHERS = 100_000
PLENTY = 15_000
FEW = 60

# Of PostgreSQL: 50 rows with what belongs to them, from three tables, an index look-up each.
FEW_PAGES = 700
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILED")

_READ = """
SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))::bigint FROM pg_statio_user_tables
WHERE relname ~ '^(runs|triggers|logs|action_executions)'
"""

# What autovacuum reads would be counted, too.
_NO_AUTOVACUUM = """
DO $$ DECLARE one regclass; BEGIN
  FOR one IN SELECT oid FROM pg_class
    WHERE relkind = 'r' AND relname ~ '^(runs|triggers|logs|action_executions)' AND relnamespace = 'public'::regnamespace
  LOOP EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', one); END LOOP; END $$
"""


@dataclass(frozen=True)
class Tenant:
    """A user with one callback and one action."""

    owner: UUID
    callback: UUID
    action: UUID


class Neighbours:
    """One tenant with few triggers, all over yesterday, one with plenty of yesterday, and others
    with more, and newer ones.
    """

    def __init__(self, database_url: str) -> None:
        self.connection = connections.connect(database_url, "test", call_seconds=120, autocommit=True)
        self.cursor = self.connection.cursor()
        self.cursor.execute(_NO_AUTOVACUUM)
        self.few = self._tenant(FEW, days_ago=1)
        self.plenty = self._tenant(PLENTY, days_ago=1)
        self.cursor.execute("UPDATE logs SET success = false WHERE random() < 0.05")
        for count, days_ago in ((OTHERS, 1), (OTHERS // 2, 0)):
            other = self._tenant(count, days_ago=days_ago)
            # of as many actions as an installation has: of a handful PostgreSQL would look at each
            self.cursor.execute(
                "UPDATE action_executions SET action_id = gen_random_uuid() WHERE user_id = %s",
                (other.owner,),
            )
        self.cursor.execute("VACUUM (ANALYZE)")

    def _tenant(self, count: int, *, days_ago: int) -> Tenant:
        rows = Rows(self.cursor)
        callback = rows.insert("callbacks")
        action = rows.insert("actions", callback_id=callback["id"], user_id=callback["user_id"])
        made = Tenant(UUID(callback["user_id"]), UUID(callback["id"]), UUID(action["id"]))
        fill(self.cursor, made.callback, made.owner, made.action, count, days_ago=days_ago)
        return made

    def pages_read(self) -> int:
        self.cursor.execute("SELECT pg_stat_clear_snapshot()")
        self.cursor.execute(_READ)
        found: int = self.cursor.fetchone()[0]
        return found


@pytest.fixture(scope="module")
def neighbours(database_url: str) -> Neighbours:
    return Neighbours(database_url)


def pages(near: Tenant) -> dict[str, Callable[[Work, UUID | None], Any]]:
    """Every list of what has happened with each filter, by name."""
    found: dict[str, Callable[[Work, UUID | None], Any]] = {}
    for status in (None, *STATUSES):
        for of_callback in ({}, {"callback_id": near.callback}):
            query = TriggerQuery.model_validate({"status": status, **of_callback})
            found[f"triggers {status} {list(of_callback)}"] = _triggers(near, query)
        for of_action in ({}, {"action_id": near.action}):
            asked = ExecutionQuery.model_validate({"status": status, **of_action})
            # no failed trigger here has a failed execution: all are looked at, which is what a page
            # may do
            if status != "FAILED":
                found[f"executions {status} {list(of_action)}"] = _executions(near, asked)
    for success in (None, True, False):
        found[f"logs {success}"] = _logs(near, success)
    return found


def _triggers(near: Tenant, query: TriggerQuery) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: triggers.page(work, near.owner, query.model_copy(update={"cursor": cursor}))


def _executions(near: Tenant, query: ExecutionQuery) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: executions.page(work, near.owner, query.model_copy(update={"cursor": cursor}))


def _logs(near: Tenant, success: bool | None) -> Callable[[Work, UUID | None], Any]:
    return lambda work, cursor: logs.page(
        work, near.owner, near.callback, LogQuery(success=success, cursor=cursor)
    )


@pytest.mark.parametrize("who", ["few", "plenty"])
def test_a_page_reads_its_own_rows(neighbours: Neighbours, database_url: str, who: str) -> None:
    """Fails when a list walks everybody's ids, joins a whole table, or fetches its rows through a
    range of ids.
    """
    database = open_database(database_url, "test", pool_size=1)
    shop = Workshop(database, Settings())
    cost: dict[str, int] = {}
    for name, page in pages(getattr(neighbours, who)).items():
        cursor = None
        for number in (1, 2):
            before = neighbours.pages_read()
            with shop.open(one_moment=True) as work:
                shown = page(work, cursor)
                cursor = shown.next_cursor
            with database.connect() as connection:
                connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            with database.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            cost[f"{name}, page {number}"] = neighbours.pages_read() - before
    database.dispose()
    assert {name: rows for name, rows in cost.items() if rows > FEW_PAGES} == {}
    assert max(cost.values()) > 50, "the count sees what is read"
