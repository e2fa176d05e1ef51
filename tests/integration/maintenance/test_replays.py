"""Replay jobs on a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from psycopg2.errors import CheckViolation

from shared.postgres.connections import OwnedConnection
from shared.runs.replay import replay
from shared.runs.settle import Settlement, settle
from tests.world import World
from worker.maintenance import replays as module
from worker.maintenance.replays import PORTION_TRIGGERS, Replays


@pytest.fixture
def connection(world: World) -> Iterator[OwnedConnection]:
    connection = OwnedConnection(world.database_url, "test", call_seconds=10)
    yield connection
    connection.close()


def settled(world: World, *, success: bool = False) -> UUID:
    trigger_id = world.trigger()
    settle(world.cursor, [Settlement(trigger_id, success=success, details="{}")])
    return trigger_id


def job(world: World, **fields: Any) -> str:
    given = {"user_id": world.user_id, "callback_id": world.callback_id, "received_to": "2999-01-01"}
    return str(world.rows.insert("replay_jobs", **(given | fields))["id"])


def state(world: World, job_id: str) -> tuple[Any, ...]:
    return world.ask("SELECT state::text, total, replayed, skipped FROM replay_jobs WHERE id = %s", job_id)[0]


def replayed(world: World) -> set[UUID]:
    return {row[0] for row in world.ask("SELECT replay_of FROM triggers WHERE replay_of IS NOT NULL")}


def test_a_job_replays_what_it_names_and_nothing_else(world: World, connection: OwnedConnection) -> None:
    failed = {settled(world) for _ in range(PORTION_TRIGGERS + 3)}
    settled(world, success=True)
    world.trigger()
    job_id = job(world)
    duty = Replays()
    while state(world, job_id)[0] == "RUNNING":
        duty.do(connection)
    assert replayed(world) == failed
    assert state(world, job_id) == ("DONE", len(failed), len(failed), 0)
    assert world.ask("SELECT count(*) FROM runs WHERE hint_at <= now()") == [(len(failed) + 1,)]
    assert duty.do(connection) == 0


def test_the_times_bound_what_is_replayed(world: World, connection: OwnedConnection) -> None:
    ids = sorted(settled(world) for _ in range(3))
    moments = [
        world.ask(
            "SELECT to_timestamp(('x' || left(replace(%s::text, '-', ''), 12))::bit(48)::bigint / 1000.0)",
            one,
        )[0][0]
        for one in ids
    ]
    job(world, received_to=moments[0])
    assert Replays().do(connection) == 0
    job(world, received_from=moments[0], received_to="2999-01-01")
    assert Replays().do(connection) == 3, "from is included"


def test_a_job_goes_on_where_it_was(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when progress and replays are not one transaction: something is replayed twice, or
    never.
    """
    monkeypatch.setattr(module, "PORTION_TRIGGERS", 2)
    failed = {settled(world) for _ in range(5)}
    job_id = job(world)
    steps = [Replays()._step(connection) for _ in range(2)]  # each time another process
    assert steps == [2, 2]
    assert state(world, job_id) == ("RUNNING", 5, 4, 0)
    world.do("ALTER TABLE replay_jobs ADD CONSTRAINT crash CHECK (replayed < 5)")
    with pytest.raises(CheckViolation):
        Replays()._step(connection)
    assert len(replayed(world)) == 4, "the portion went with its progress"
    world.do("ALTER TABLE replay_jobs DROP CONSTRAINT crash")
    Replays().do(connection)
    assert replayed(world) == failed
    assert world.ask("SELECT count(*) FROM triggers WHERE replay_of IS NOT NULL") == [(5,)]


def test_open_jobs_take_turns(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION_TRIGGERS", 1)
    for _ in range(4):
        settled(world)
    jobs = [job(world) for _ in range(2)]
    duty = Replays()
    for _ in range(2):
        duty._step(connection)
    assert [state(world, one)[2] for one in jobs] == [1, 1]


def test_a_cancelled_job_replays_nothing_more(world: World, connection: OwnedConnection) -> None:
    settled(world)
    job(world, state="CANCELLED")
    assert Replays().do(connection) == 0
    assert replayed(world) == set()


@pytest.mark.parametrize("change", ["active_status = false", "deleted_at = now()"])
def test_a_job_of_a_callback_that_is_off_says_so(
    world: World, connection: OwnedConnection, change: str
) -> None:
    settled(world)
    job_id = job(world)
    world.do(f"UPDATE callbacks SET {change}")
    Replays().do(connection)
    assert state(world, job_id)[0] == "FAILED"
    assert world.ask("SELECT error, finished_at IS NOT NULL FROM replay_jobs") == [
        ("The callback was switched off or deleted.", True)
    ]
    assert replayed(world) == set()


def test_a_count_that_takes_long_is_left_out(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a job waits for its total: with millions of triggers it would never begin."""
    monkeypatch.setattr(module, "_COUNT", "SELECT pg_sleep(2) " + module._CHOSEN + " AND %(limit)s > 0")
    settled(world)
    job_id = job(world)
    began = time.monotonic()
    assert Replays()._step(connection) == 1
    assert time.monotonic() - began < 1.5
    assert state(world, job_id) == ("RUNNING", None, 1, 0)


def test_a_job_whose_triggers_cannot_be_found_in_time_says_so(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it is tried again each second: the other duties of that worker would hardly get a
    turn.
    """
    monkeypatch.setattr(module, "PORTION_MS", 100)
    monkeypatch.setattr(module, "_PORTION", "SELECT l.id FROM pg_sleep(2), logs l LIMIT %(limit)s")
    settled(world)
    job_id = job(world)
    Replays()._step(connection)
    assert state(world, job_id)[0] == "FAILED"
    assert "shorter period" in world.ask("SELECT error FROM replay_jobs WHERE id = %s", job_id)[0][0]


def test_a_job_of_a_user_who_was_switched_off_makes_nothing(
    world: World, connection: OwnedConnection
) -> None:
    """Fails when each of its triggers is recorded, only to fail."""
    settled(world)
    job_id = job(world)
    world.do("UPDATE users SET is_active = false")
    Replays().do(connection)
    assert state(world, job_id)[0] == "FAILED"
    assert replayed(world) == set()


def test_copying_may_take_longer_than_finding(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the bound on the search still holds for the copy: large bodies on a slow disk
    would end the job.
    """
    monkeypatch.setattr(module, "PORTION_MS", 300)
    settled(world)
    job_id = job(world)

    def slow(cursor: Any, *rest: Any) -> Any:
        cursor.execute("SELECT pg_sleep(0.6)")
        return replay(cursor, *rest)

    monkeypatch.setattr(module, "replay", slow)
    assert Replays()._step(connection) == 1
    assert state(world, job_id)[0] == "RUNNING"


def test_copying_has_the_sessions_own_time_and_not_the_roles(
    world: World, connection: OwnedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails with `TO DEFAULT`, which is what the database or the role says."""
    name = world.ask("SELECT current_database()")[0][0]
    world.do(f"ALTER DATABASE {name} SET statement_timeout = '77s'")
    settled(world)
    seen = []

    def look(cursor: Any, *arguments: Any) -> Any:
        cursor.execute("SHOW statement_timeout")
        seen.append(cursor.fetchone()[0])
        return replay(cursor, *arguments)

    monkeypatch.setattr(module, "replay", look)
    job(world)
    assert Replays().do(connection) == 1
    assert seen == ["10s"]
