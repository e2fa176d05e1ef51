"""Where a trigger token leads that was rotated away, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from api.ingress import resolve
from api.ingress.resolve import Resolver, Snapshot
from shared.errors import NotFound
from shared.postgres.connections import open_database
from tests.world import World

OLD = "an-old-token"


@pytest.fixture
def resolver(world: World) -> Iterator[Resolver]:
    resolver = Resolver(open_database(world.database_url, "test", pool_size=2))
    yield resolver
    resolver.stop()


def find(resolver: Resolver, token: str, prefix: str = "/t/") -> Snapshot:
    return asyncio.run(resolver.find(prefix + token))


def retire(tenant: World, token: str = OLD, seconds: float = 60) -> None:
    tenant.do(
        "INSERT INTO retired_tokens (token, callback_id, expires_at)"
        " VALUES (%s, %s, now() + make_interval(secs => %s))",
        token,
        tenant.callback_id,
        seconds,
    )


def test_it_leads_to_its_callback_as_the_new_one_does(
    world: World, stranger: World, resolver: Resolver
) -> None:
    retire(world)
    retire(stranger, "another-old-token")
    ((new, timeout_ms),) = world.ask(
        "UPDATE callbacks SET timeout_duration = 1234, cache_period = 7 WHERE id = %s"
        " RETURNING trigger_token, timeout_duration",
        world.callback_id,
    )
    expected = Snapshot(world.callback_id, world.user_id, True, timeout_ms, 7)
    assert find(resolver, OLD) == find(resolver, new) == expected
    other = find(resolver, "another-old-token")
    assert (other.callback_id, other.user_id) == (stranger.callback_id, stranger.user_id)


def test_it_leads_nowhere_once_its_time_is_over(world: World, resolver: Resolver) -> None:
    """Fails when only the duty ends it, which comes once a minute."""
    retire(world, seconds=0)
    with pytest.raises(NotFound):
        find(resolver, OLD)


@pytest.mark.parametrize(
    ("change", "of"),
    [
        ("UPDATE callbacks SET active_status = false WHERE id = %s", "callback_id"),
        ("UPDATE users SET is_active = false WHERE id = %s", "user_id"),
        ("UPDATE users SET deleted_at = now() WHERE id = %s", "user_id"),
    ],
)
def test_it_is_switched_off_with_its_own_callback_alone(
    world: World, stranger: World, resolver: Resolver, change: str, of: str
) -> None:
    retire(world)
    retire(stranger, "another-old-token")
    world.do(change, getattr(world, of))
    assert not find(resolver, OLD).active
    assert find(resolver, "another-old-token").active


def test_it_ends_with_its_callback(world: World, stranger: World, resolver: Resolver) -> None:
    """Fails when a deleted callback is called through a token that it had before."""
    retire(world)
    retire(stranger, "another-old-token")
    world.do("UPDATE callbacks SET deleted_at = now() WHERE id = %s", world.callback_id)
    with pytest.raises(NotFound):
        find(resolver, OLD)
    assert find(resolver, "another-old-token").callback_id == stranger.callback_id
    world.do("DELETE FROM callbacks WHERE id = %s", world.callback_id)
    assert world.ask("SELECT token FROM retired_tokens") == [("another-old-token",)]


def test_a_custom_path_of_the_same_name_is_another_address(
    world: World, stranger: World, resolver: Resolver
) -> None:
    retire(world)
    stranger.do("UPDATE callbacks SET custom_path = %s WHERE id = %s", OLD, stranger.callback_id)
    assert find(resolver, OLD).callback_id == world.callback_id
    assert find(resolver, OLD, "/c/").callback_id == stranger.callback_id


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def test_a_look_up_reads_indexes_alone(world: World) -> None:
    """Fails when it walks the callbacks, or what was retired, at each call of a trigger URL."""
    world.do(
        "INSERT INTO callbacks (id, name, callback_url, user_id)"
        " SELECT gen_random_uuid(), 'n', 'http://x/', %s FROM generate_series(1, 3000)",
        world.user_id,
    )
    world.do(
        "INSERT INTO users (id, email, password)"
        " SELECT gen_random_uuid(), gen_random_uuid()::text, 'x' FROM generate_series(1, 3000)"
    )
    world.do(
        "INSERT INTO retired_tokens (token, callback_id, expires_at)"
        " SELECT gen_random_uuid()::text, id, now() + interval '1 h' FROM callbacks"
    )
    world.do(
        "INSERT INTO actions (id, callback_id, user_id, type, config)"
        " SELECT gen_random_uuid(), id, user_id, 'STORE', '{}' FROM callbacks"
    )
    read = {"callbacks", "users", "retired_tokens", "actions"}
    for table in read:
        world.do(f"ANALYZE {table}")
    statement = str(resolve._BY_TOKEN).replace(":name", "%(name)s")
    world.cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", {"name": OLD})
    ((plan,),) = world.cursor.fetchone()
    scans = [node for node in nodes(plan["Plan"]) if "Relation Name" in node]
    assert {node["Relation Name"] for node in scans} == read
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    assert plan["Plan"]["Total Cost"] < 60


def test_ids_are_as_everywhere(world: World, resolver: Resolver) -> None:
    retire(world)
    assert isinstance(find(resolver, OLD).callback_id, UUID)
