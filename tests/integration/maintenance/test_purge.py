"""What a deletion removes, on a real PostgreSQL, and what it leaves: all of another tenant's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from shared.postgres.connections import OwnedConnection
from tests.world import World
from worker.maintenance import purge as purge_duty
from worker.maintenance.purge import Purge

OF_CALLBACK = (
    "runs",
    "action_executions",
    "logs",
    "triggers",
    "actions",
    "rate_limit_logs",
    "stored_items",
    "idempotency_keys",
    "retired_tokens",
)
OF_USER = ("callbacks", "api_keys", "service_credentials", "subscriptions", "sessions")
ONE_OF_EACH = dict.fromkeys((*OF_CALLBACK, *OF_USER, "users"), 1)
MARKED = "deleted_at = now() - interval '1 s'"


@pytest.fixture
def connection(world: World) -> Iterator[OwnedConnection]:
    connection = OwnedConnection(world.database_url, "test", call_seconds=10)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def furnished(world: World, stranger: World) -> Iterator[UUID]:
    """One row of each table for each of two tenants; the first one's action.

    At the end nothing of the other one has changed.
    """
    action, _ = furnish(world), furnish(stranger)
    before = rows(stranger)
    assert counts(world) == counts(stranger) == ONE_OF_EACH
    yield action
    assert rows(stranger) == before, "nobody's deletion touches another tenant"


def furnish(tenant: World) -> UUID:
    action = tenant.action()
    trigger_id = tenant.trigger()
    names = {"callback_id": tenant.callback_id, "user_id": tenant.user_id}
    tenant.rows.insert("action_executions", trigger_id=trigger_id, action_id=action, **names)
    tenant.rows.insert("logs", **names)
    tenant.rows.insert("rate_limit_logs", **names)
    tenant.rows.insert("stored_items", **names, action_id=action, trigger_id=trigger_id)
    tenant.rows.insert("idempotency_keys", callback_id=tenant.callback_id, key="the same for both")
    tenant.rows.insert("retired_tokens", callback_id=tenant.callback_id)
    for table in OF_USER[1:]:
        tenant.rows.insert(table, user_id=tenant.user_id)
    return action


def rows(tenant: World) -> dict[str, list[Any]]:
    """Everything that belongs to a tenant, by table."""
    found = {}
    for table in ONE_OF_EACH:
        owner = "id" if table == "users" else "user_id" if table in OF_USER else "callback_id"
        value = tenant.callback_id if owner == "callback_id" else tenant.user_id
        found[table] = tenant.ask(f"SELECT to_jsonb(t) FROM {table} t WHERE {owner} = %s", value)
    return found


def counts(tenant: World) -> dict[str, int]:
    return {table: len(found) for table, found in rows(tenant).items()}


def purge_all(connection: OwnedConnection) -> None:
    duty = Purge(quiet_seconds=0)
    while duty.do(connection):
        pass


def test_deleting_a_callback_takes_logs_limits_actions_executions_and_items(
    world: World, connection: OwnedConnection
) -> None:
    world.do(f"UPDATE callbacks SET {MARKED} WHERE id = %s", world.callback_id)
    purge_all(connection)
    assert counts(world) == ONE_OF_EACH | dict.fromkeys((*OF_CALLBACK, "callbacks"), 0)


def test_deleting_an_action_takes_its_executions_only(
    world: World, connection: OwnedConnection, furnished: UUID
) -> None:
    world.do(f"UPDATE actions SET {MARKED} WHERE id = %s", furnished)
    purge_all(connection)
    assert counts(world) == ONE_OF_EACH | {"actions": 0, "action_executions": 0}


def test_deleting_a_user_takes_everything(world: World, connection: OwnedConnection) -> None:
    world.do(f"UPDATE users SET {MARKED} WHERE id = %s", world.user_id)
    purge_all(connection)
    world.do("UPDATE callbacks SET deleted_at = deleted_at - interval '1 s'")
    purge_all(connection)
    assert counts(world) == dict.fromkeys(ONE_OF_EACH, 0)


def test_what_was_marked_just_now_is_left_until_nobody_can_add_to_it(
    world: World, connection: OwnedConnection
) -> None:
    world.do("UPDATE callbacks SET deleted_at = now() WHERE id = %s", world.callback_id)
    assert Purge().do(connection) == 0
    assert counts(world) == ONE_OF_EACH


NEITHER = """
SELECT t.id FROM triggers t WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.trigger_id = t.id)
  AND NOT EXISTS (SELECT 1 FROM logs l WHERE l.id = t.id)
"""


def test_at_each_commit_a_trigger_has_a_run_or_a_log_row(
    world: World,
    stranger: World,
    connection: OwnedConnection,
    furnished: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when runs or log rows go in a transaction before the one in which their triggers go."""
    monkeypatch.setattr(purge_duty, "PORTION_ROWS", 2)
    names = {"callback_id": world.callback_id, "user_id": world.user_id}
    ended = [world.trigger() for _ in range(5)]
    world.do("DELETE FROM runs WHERE trigger_id = ANY(%s::uuid[])", [str(one) for one in ended])
    for trigger_id in ended:
        world.rows.insert("logs", id=trigger_id, **names)
        world.rows.insert("action_executions", trigger_id=trigger_id, action_id=furnished, **names)
    for number in range(5):
        trigger_id = world.trigger(status="RUNNING" if number % 2 else "PENDING")
        world.rows.insert("action_executions", trigger_id=trigger_id, action_id=furnished, **names)
    assert world.ask(NEITHER) == []
    world.do(f"UPDATE callbacks SET {MARKED} WHERE id = %s", world.callback_id)

    duty, commits = Purge(quiet_seconds=0), 0
    while True:
        with connection.transaction() as cursor:
            removed = duty._remove_some(cursor)
        if not removed:
            break
        commits += 1
        assert removed <= 2
        assert world.ask(NEITHER) == []
    assert commits > 8
    assert counts(world) == ONE_OF_EACH | dict.fromkeys((*OF_CALLBACK, "callbacks"), 0)
    assert counts(stranger) == ONE_OF_EACH
