"""Lists by keyset: whatever the filter, all that is wanted comes once, newest first, and no page
reads without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.resources import callbacks, executions, logs, stored_items, triggers
from api.resources.executions import ExecutionQuery
from api.resources.logs import LogQuery
from api.resources.paging import MAX_READ
from api.resources.shapes import Page, PageQuery
from api.resources.stored_items import StoredItemQuery
from api.resources.triggers import TriggerQuery
from api.work import Work, Workshop
from shared.config import Settings
from shared.ids import first_id_of, new_id
from shared.postgres.connections import open_database
from tests.history import fill
from tests.rows import Rows

MANY = MAX_READ + 50


@dataclass
class Tenant:
    """A user whose callbacks, actions and triggers a test makes."""

    rows: Rows
    id: UUID = field(init=False)

    def __post_init__(self) -> None:
        self.id = UUID(self.rows.insert("users")["id"])

    def callback(self) -> UUID:
        return UUID(self.rows.insert("callbacks", user_id=self.id)["id"])

    def action(self, callback_id: UUID) -> UUID:
        return UUID(self.rows.insert("actions", callback_id=callback_id, user_id=self.id)["id"])

    def trigger(self, callback_id: UUID, action_id: UUID, status: str) -> tuple[UUID, UUID]:
        """A trigger with one execution; the ids of both."""
        trigger_id = new_id()
        execution_id = UUID(int=trigger_id.int ^ 1)
        names = {"callback_id": callback_id, "user_id": self.id}
        self.rows.insert("triggers", id=trigger_id, **names)
        self.rows.insert(
            "action_executions",
            trigger_id=trigger_id,
            id=execution_id,
            action_id=action_id,
            status=status,
            **names,
        )
        if status in ("PENDING", "RUNNING"):
            self.rows.insert("runs", trigger_id=trigger_id, status=status, **names)
        else:
            self.rows.insert(
                "logs", id=trigger_id, event="trigger.settled", success=status == "SUCCESS", **names
            )
        return trigger_id, execution_id

    def item(self, callback_id: UUID, key: str) -> UUID:
        row = self.rows.insert("stored_items", user_id=self.id, callback_id=callback_id, key=key)
        return UUID(row["id"])


@pytest.fixture
def rows(connect: Callable[..., Any]) -> Rows:
    return Rows(connect().cursor())


@pytest.fixture
def work(own_database_url: str) -> Iterator[Work]:
    database = open_database(own_database_url, "test", pool_size=1)
    shop = Workshop(database, Settings())
    with shop.open(one_moment=True) as work:
        yield work
    database.dispose()


Listed = Callable[[UUID | None], Page[Any]]


def all_of(listed: Listed) -> tuple[list[UUID], list[bool]]:
    """The ids of all pages, one behind the other, and which pages were partial."""
    ids: list[UUID] = []
    partial: list[bool] = []
    cursor = None
    while True:
        page = listed(cursor)
        ids += [item.id for item in page.items]
        partial.append(page.partial)
        assert len(partial) < 50, "the pages end"
        cursor = page.next_cursor
        if cursor is None:
            return ids, partial


STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILED")


@dataclass
class TwoTenants:
    """Each has two callbacks with triggers in each status, made in turns; one of the callbacks is
    deleted.
    """

    mine: Tenant
    kept: UUID
    deleted: UUID
    action: UUID
    made: list[tuple[UUID, UUID, str]]
    """Of the kept callback: trigger, execution and status, newest first."""


@pytest.fixture
def two_tenants(rows: Rows) -> TwoTenants:
    mine, other = Tenant(rows), Tenant(rows)
    made: list[tuple[UUID, UUID, str]] = []
    kept, deleted, others = mine.callback(), mine.callback(), other.callback()
    action, deleted_action, others_action = (
        mine.action(kept),
        mine.action(deleted),
        other.action(others),
    )
    for number in range(24):
        status = STATUSES[number % 4]
        made.append((*mine.trigger(kept, action, status), status))
        mine.trigger(deleted, deleted_action, status)
        other.trigger(others, others_action, status)
    for _ in range(30):  # the newest are of the deleted callback: more than a page of them
        mine.trigger(deleted, deleted_action, "FAILED")
    rows.cursor.execute("UPDATE callbacks SET deleted_at = now() WHERE id = %s", (str(deleted),))
    made.sort(reverse=True)
    return TwoTenants(mine, kept, deleted, action, made)


@pytest.mark.parametrize("status", [None, *STATUSES])
@pytest.mark.parametrize("of_callback", [False, True], ids=["all", "of a callback"])
def test_triggers_come_once_and_newest_first(
    work: Work, two_tenants: TwoTenants, status: Any, of_callback: bool
) -> None:
    """Fails when a deleted callback's rows end a list early, or another tenant's stand in it."""
    callback_id = two_tenants.kept if of_callback else None
    found, partial = all_of(
        lambda cursor: triggers.page(
            work,
            two_tenants.mine.id,
            TriggerQuery(limit=4, cursor=cursor, status=status, callback_id=callback_id),
        )
    )
    assert found == [trigger for trigger, _, is_status in two_tenants.made if status in (None, is_status)]
    assert not any(partial)


@pytest.mark.parametrize("status", [None, *STATUSES])
@pytest.mark.parametrize("of_action", [False, True], ids=["all", "of an action"])
def test_executions_come_once_and_newest_first(
    work: Work, two_tenants: TwoTenants, status: Any, of_action: bool
) -> None:
    """Fails when the executions of a deleted callback end the list early: empty pages, although
    thousands follow.
    """
    action_id = two_tenants.action if of_action else None
    found, partial = all_of(
        lambda cursor: executions.page(
            work,
            two_tenants.mine.id,
            ExecutionQuery(limit=4, cursor=cursor, status=status, action_id=action_id),
        )
    )
    assert found == [one for _, one, is_status in two_tenants.made if status in (None, is_status)]
    assert not any(partial)


def test_another_tenants_callback_and_action_list_nothing(
    work: Work, two_tenants: TwoTenants, rows: Rows
) -> None:
    stranger = Tenant(rows)
    assert triggers.page(work, stranger.id, TriggerQuery(callback_id=two_tenants.kept)).items == []
    assert executions.page(work, stranger.id, ExecutionQuery(action_id=two_tenants.action)).items == []
    query = StoredItemQuery(callback_id=two_tenants.kept)
    assert stored_items.page(work, stranger.id, query).items == []


@pytest.mark.parametrize("success", [None, True, False])
def test_logs_come_once_and_newest_first(
    work: Work, two_tenants: TwoTenants, rows: Rows, success: bool | None
) -> None:
    names = {"callback_id": two_tenants.kept, "user_id": two_tenants.mine.id}
    event = UUID(rows.insert("logs", event="action.disabled", success=False, **names)["id"])
    wanted = sorted(
        [
            (event, False),
            *((t, s == "SUCCESS") for t, _, s in two_tenants.made if s in ("SUCCESS", "FAILED")),
        ],
        reverse=True,
    )
    found, _ = all_of(
        lambda cursor: logs.page(
            work, two_tenants.mine.id, two_tenants.kept, LogQuery(limit=4, cursor=cursor, success=success)
        )
    )
    assert found == [one for one, is_good in wanted if success in (None, is_good)]


@pytest.mark.parametrize("key", [None, "wanted"])
def test_stored_items_come_once_and_newest_first(
    work: Work, two_tenants: TwoTenants, key: str | None
) -> None:
    mine = two_tenants.mine
    made: list[tuple[UUID, str]] = []
    for number in range(12):
        name = "wanted" if number % 3 else "other"
        made.append((mine.item(two_tenants.kept, name), name))
        mine.item(two_tenants.deleted, name)
    wanted = [one for one, name in sorted(made, reverse=True) if key in (None, name)]
    for callback_id in (None, two_tenants.kept):
        found, _ = all_of(
            lambda cursor, of=callback_id: stored_items.page(  # type: ignore[misc]
                work, mine.id, StoredItemQuery(limit=3, cursor=cursor, key=key, callback_id=of)
            )
        )
        assert found == wanted


@dataclass
class Haystack:
    """More triggers of one outcome than a page may read, newer than the few with the other."""

    tenant: Tenant
    callback: UUID
    action: UUID
    needles: list[tuple[UUID, UUID]]
    """Triggers and their executions, newest first."""


@pytest.fixture
def haystack(rows: Rows) -> Haystack:
    """MANY failures, and behind them five triggers that succeeded."""
    tenant = Tenant(rows)
    callback = tenant.callback()
    action = tenant.action(callback)
    fill(rows.cursor, callback, tenant.id, action, MANY, days_ago=0)
    rows.cursor.execute("UPDATE logs SET success = false")
    rows.cursor.execute("UPDATE action_executions SET status = 'FAILED'")
    fill(rows.cursor, callback, tenant.id, action, 5, days_ago=1)
    rows.cursor.execute(
        "SELECT trigger_id, id FROM action_executions WHERE status = 'SUCCESS' ORDER BY id DESC"
    )
    needles = [(row[0], row[1]) for row in rows.cursor.fetchall()]
    return Haystack(tenant, callback, action, needles)


def test_a_rare_status_is_searched_in_bounded_pages(work: Work, haystack: Haystack) -> None:
    """Fails when a page reads on until it is full, or when it says that there is no more although
    it stopped.
    """
    owner = haystack.tenant.id
    lists: dict[str, tuple[Listed, list[UUID]]] = {
        "triggers": (
            lambda cursor: triggers.page(work, owner, TriggerQuery(limit=3, cursor=cursor, status="SUCCESS")),
            [trigger for trigger, _ in haystack.needles],
        ),
        "executions": (
            lambda cursor: executions.page(
                work, owner, ExecutionQuery(limit=3, cursor=cursor, status="SUCCESS")
            ),
            [execution for _, execution in haystack.needles],
        ),
        "executions of an action": (
            lambda cursor: executions.page(
                work,
                owner,
                ExecutionQuery(limit=3, cursor=cursor, status="SUCCESS", action_id=haystack.action),
            ),
            [execution for _, execution in haystack.needles],
        ),
        "logs": (
            lambda cursor: logs.page(
                work, owner, haystack.callback, LogQuery(limit=3, cursor=cursor, success=True)
            ),
            [trigger for trigger, _ in haystack.needles],
        ),
    }
    for name, (listed, wanted) in lists.items():
        first = listed(None)
        assert (list(first.items), first.partial) == ([], True), name
        assert first.next_cursor is not None, name
        assert all_of(listed) == (wanted, [True, False, False]), name


def test_failures_and_what_is_in_motion_are_one_list(work: Work, haystack: Haystack) -> None:
    """Fails when the end of one of the two indexes is taken for the end of the other.

    The hay are failed triggers without a failed execution, which are read and not listed.
    """
    cursor, owner = haystack.tenant.rows.cursor, haystack.tenant.id
    cursor.execute("UPDATE action_executions SET status = 'SUCCESS'")
    cursor.execute(
        "SELECT trigger_id, id FROM action_executions WHERE user_id = %s ORDER BY id DESC", (str(owner),)
    )
    made = cursor.fetchall()
    names = {"callback_id": haystack.callback, "user_id": owner}

    def in_motion(number: int) -> UUID:
        """The number-th newest trigger, given a run beside its failed execution, and no log row."""
        trigger_id, execution_id = made[number]
        cursor.execute("DELETE FROM logs WHERE id = %s", (trigger_id,))
        haystack.tenant.rows.insert("runs", trigger_id=trigger_id, status="RUNNING", **names)
        cursor.execute("UPDATE action_executions SET status = 'FAILED' WHERE id = %s", (execution_id,))
        return UUID(str(execution_id))

    def failed(number: int) -> UUID:
        cursor.execute("UPDATE action_executions SET status = 'FAILED' WHERE id = %s", (made[number][1],))
        return UUID(str(made[number][1]))

    wanted = [
        *(in_motion(number) for number in (0, 1, 5_000)),
        *(failed(number) for number in (MAX_READ - 3, MAX_READ - 1, MAX_READ, MAX_READ + 2, MAX_READ + 3)),
        *(in_motion(number) for number in (MAX_READ + 20, MANY + 2)),
    ]

    for limit in (2, 7, 8, 50):
        found, partial = all_of(
            lambda cursor, limit=limit: executions.page(  # type: ignore[misc]
                work, owner, ExecutionQuery(limit=limit, cursor=cursor, status="FAILED")
            )
        )
        assert found == wanted, limit
    assert partial == [True, False]


def test_any_uuid_is_a_cursor(work: Work, two_tenants: TwoTenants) -> None:
    """Fails when a made-up cursor is an error, or when the last id there can be is not behind
    everything.
    """
    owner = two_tenants.mine.id
    for cursor, count in ((UUID(int=0), 0), (UUID(int=2**128 - 1), len(two_tenants.made))):
        assert len(executions.page(work, owner, ExecutionQuery(cursor=cursor)).items) == count
        assert len(triggers.page(work, owner, TriggerQuery(cursor=cursor)).items) == count


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(
    work: Work, two_tenants: TwoTenants, rows: Rows
) -> None:
    """The time is the id's, which the list is ordered by."""
    day = datetime(2026, 1, 1, 12, tzinfo=UTC)
    partition = "CREATE TABLE old PARTITION OF triggers FOR VALUES FROM (%s) TO (%s)"
    hour = timedelta(hours=1)
    rows.cursor.execute(partition, (first_id_of(day - hour), first_id_of(day + 3 * hour)))
    names = {"callback_id": two_tenants.kept, "user_id": two_tenants.mine.id}
    moments = [day, day + hour, day + 2 * hour]
    made = [new_id(int(moment.timestamp() * 1000)) for moment in moments]
    for one in made:
        rows.insert("triggers", id=one, **names)
    query = TriggerQuery.model_validate({"from": day, "to": day + 2 * hour})
    found = triggers.page(work, two_tenants.mine.id, query)
    assert [item.id for item in found.items] == [made[1], made[0]]


def test_deleting_a_callback_hides_it_from_its_own_list(work: Work, two_tenants: TwoTenants) -> None:
    found = callbacks.page(work, two_tenants.mine.id, PageQuery())
    assert [one.id for one in found.items] == [two_tenants.kept]
