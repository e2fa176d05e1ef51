"""Whether a process is ready, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event

from api import health
from api.health import make_health
from shared.postgres.connections import open_database
from tests.rows import Rows
from tests.world import World

PARKED = 20_000
FEW_ROWS = 50


@pytest.mark.parametrize(("dead", "status"), [(None, 200), ("record", 503)])
def test_a_loop_that_has_died_makes_a_process_not_ready(
    own_database_url: str, connect: Callable[..., Any], dead: str | None, status: int
) -> None:
    """Fails when an API process whose recorder has died still gets calls from a load balancer."""
    Rows(connect().cursor()).insert("workers", heartbeat_at="now")
    database = open_database(own_database_url, "test", pool_size=1)
    app = Flask("test")
    app.register_blueprint(make_health(database, "redis://127.0.0.1:1/0", lambda: dead))
    answer = app.test_client().get("/readyz")
    database.dispose()
    assert (answer.status_code, answer.get_json()["checks"]["deadThread"]) == (status, dead)


@pytest.fixture
def database(own_database_url: str) -> Iterator[Engine]:
    database = open_database(own_database_url, "test", pool_size=1)
    yield database
    database.dispose()


@pytest.fixture
def client(database: Engine) -> FlaskClient:
    app = Flask("test")
    app.register_blueprint(make_health(database, "redis://127.0.0.1:1/0", lambda: None))
    return app.test_client()


def test_a_process_of_suspects_is_no_worker(world: World, client: FlaskClient) -> None:
    """Fails when it alone makes a fleet that takes nothing look well."""
    world.rows.insert("workers", heartbeat_at="now", lanes=[])
    assert client.get("/readyz").get_json()["checks"]["workers"] == 0


@pytest.fixture
def parked(world: World, stranger: World) -> None:
    """Many runs of two tenants wait for a retry, and a worker beats."""
    world.rows.insert("workers", heartbeat_at="now", in_flight=0)
    for tenant in (world, stranger):
        world.do(
            "INSERT INTO runs (trigger_id, callback_id, user_id, claim, due_at, hint_at)"
            " SELECT gen_random_uuid(), %s, %s, 1, at, at FROM ("
            " SELECT now() + make_interval(secs => 60 + n) AS at FROM generate_series(1, %s) n) moments",
            tenant.callback_id,
            tenant.user_id,
            PARKED // 2,
        )
    world.do("ANALYZE")


@pytest.mark.usefixtures("parked")
def test_readiness_does_not_read_what_is_parked(world: World, client: FlaskClient, database: Engine) -> None:
    """Fails when each check reads all runs that wait for a retry."""
    read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'runs'"
    with database.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    before = world.ask(read)[0][0]
    assert client.get("/readyz").status_code == 200
    with database.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        connection.commit()
        connection.exec_driver_sql("SELECT 1")
    assert world.ask(read)[0][0] - before < FEW_ROWS


@pytest.mark.usefixtures("parked")
def test_what_is_overdue_is_progress_only_while_somebody_hints_or_delivers(
    world: World, stranger: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ASK_SECONDS", 0.0)
    world.trigger(hint_at="2020-01-01")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()["checks"]["workers"]) == (503, 1)
    assert answer.get_json()["checks"]["oldestOverdueSeconds"] > 1_000_000
    hinted = stranger.trigger(hint_at="2999-01-01")
    world.do(
        "UPDATE runs SET hint_count = 1, hint_at = now() + interval '30 s' WHERE trigger_id = %s", hinted
    )
    assert client.get("/readyz").status_code == 200
    world.do("DELETE FROM runs WHERE trigger_id = %s", hinted)
    assert client.get("/readyz").status_code == 503
    world.do("UPDATE workers SET in_flight = 1")
    assert client.get("/readyz").status_code == 200


@pytest.mark.usefixtures("parked")
def test_many_checks_ask_postgres_once_a_second(
    client: FlaskClient, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    monkeypatch.setattr(health, "ASK_SECONDS", 60.0)
    assert [client.get("/readyz").status_code for _ in range(5)] == [200] * 5
    assert len(asked) == 1
    monkeypatch.setattr(health, "ASK_SECONDS", 0.0)
    assert client.get("/readyz").status_code == 200
    assert len(asked) == 2
