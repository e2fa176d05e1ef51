"""Whoever has a connection that answers «wrong or lost server» has another one for the next call.

PostgreSQL itself raises the SQLSTATE, in a trigger of the table that a part writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from api.ingress.record import Recorder
from api.resources import users
from api.resources.users import NewUser
from api.work import Workshop
from shared.config import Settings
from shared.errors import Unavailable
from shared.ids import new_id
from shared.postgres.connections import OwnedConnection, cursor_of, open_database
from shared.redis.hints import HintPublisher, HintSender
from shared.redis.queues import make_celery
from shared.runs.settle import SETTLED_EVENT
from tests.integration.engine.test_storage import new_item
from tests.integration.ingress.test_record import new_trigger
from tests.loops import later
from tests.running import eventually
from tests.world import World
from worker.doors.storage import Storage
from worker.engine.claim import Claimer
from worker.engine.entry import Entry, Settled
from worker.engine.heartbeat import Heartbeat
from worker.engine.journal import Journal
from worker.engine.room import Room
from worker.maintenance.dead_workers import DeadWorkers
from worker.maintenance.expired import Expired

# Of classes of the driver's that differ: an internal error, one of operation, one of programming.
STATES = ("25006", "57P05", "26000")

# As which a refusal comes: the driver's own error, SQLAlchemy's around it, ours in place of both.
REFUSED = (psycopg2.Error, DBAPIError, Unavailable)

# Of one part in one test: before, while it is refused, after.
ACTS = 3


@dataclass
class Part:
    """Who writes. name: of its connections; table: what it writes; act: lets it write, once."""

    name: str
    table: str
    act: Callable[[], object]
    close: Callable[[], object]


def record(world: World) -> Part:
    url = "redis://127.0.0.1:1/0"
    publisher = HintPublisher(HintSender(make_celery(url), url))
    recorder = Recorder(world.database_url, publisher, call_seconds=3, first_hint_seconds=5)
    recorder.start()
    return Part(
        "record",
        "triggers",
        lambda: later(recorder.record, new_trigger(world)).result(5),
        recorder.stop,
    )


def claim(world: World) -> Part:
    claimer = Claimer(world.database_url, Room(10_000, 10**9, 1))
    waiting = iter([world.trigger() for _ in range(ACTS)])
    return Part("claim", "runs", lambda: claimer.claim(new_id(), [next(waiting)]), claimer.close)


def journal(world: World) -> Part:
    journal, claimer = Journal(world.database_url), Claimer(world.database_url, Room(10_000, 10**9, 1))
    world.action()
    runs = claimer.claim(new_id(), [world.trigger() for _ in range(ACTS)])
    claimer.close()
    end = Settled(success=True, status_code=None, details={"event": SETTLED_EVENT})
    entries = iter([Entry(run, (), (), end) for run in runs])
    return Part("journal", "runs", lambda: journal.flush([next(entries)]), lambda: None)


def heartbeat(world: World) -> Part:
    beats = Heartbeat(Settings(), world.database_url, Room(9, 9**9, 9), time.monotonic, lambda _reason: None)

    def act() -> None:
        if not beats._renew():
            raise AssertionError("it was declared dead")

    return Part("heartbeat", "workers", act, beats._connection.close)


def storage(world: World) -> Part:
    storage = Storage(world.database_url)
    asyncio.run(storage.open())
    return Part(
        "storage",
        "stored_items",
        lambda: asyncio.run(storage.store(new_item(world))),
        lambda: asyncio.run(storage.close()),
    )


def maintenance(world: World) -> Part:
    connection = OwnedConnection(world.database_url, "sweep", call_seconds=5)
    return Part("sweep", "sessions", lambda: Expired().do(connection), connection.close)


def orm(world: World) -> Part:
    database = open_database(world.database_url, "api", pool_size=2)
    shop = Workshop(database, Settings())

    def act() -> None:
        with shop.open() as work:
            users.create(work, NewUser(email=f"{new_id()}@example.com", password="x"))

    return Part("api", "users", act, database.dispose)


def orm_by_cursor(world: World) -> Part:
    """Statements that are shared with the worker, on a connection of the pool."""
    database: Engine = open_database(world.database_url, "api", pool_size=2)

    def act() -> None:
        with Workshop(database, Settings()).open() as work:
            cursor_of(work.session).execute("UPDATE runs SET hint_at = now()")

    return Part("api", "runs", act, database.dispose)


PARTS = (record, claim, journal, heartbeat, storage, maintenance, orm, orm_by_cursor)


@contextmanager
def refusing(world: World, table: str, sqlstate: str) -> Iterator[None]:
    """Whoever writes this table is answered with the SQLSTATE."""
    world.do(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$;"
        f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        world.do(f"DROP TRIGGER refuse ON {table}")


@contextmanager
def told(sqlstate: str) -> Iterator[None]:
    """Whoever acts in the block is told of this SQLSTATE, or that PostgreSQL is away."""
    with pytest.raises(REFUSED) as refused:
        yield
    error: Any = refused.value
    if not isinstance(error, Unavailable):
        assert getattr(error, "orig", error).pgcode == sqlstate


def sessions_of(world: World, name: str) -> set[int]:
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    return {pid for (pid,) in world.ask(asked, f"pointsman {name}")}


@pytest.mark.parametrize("make", PARTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("sqlstate", STATES)
def test_the_connection_is_replaced(
    world: World, make: Callable[[World], Part], sqlstate: str, request: pytest.FixtureRequest
) -> None:
    """Fails when a part rolls back and keeps the session: it would be refused for ever."""
    part = make(world)
    request.addfinalizer(part.close)
    part.act()
    before = sessions_of(world, part.name)
    assert before
    with refusing(world, part.table, sqlstate), told(sqlstate):
        part.act()
    part.act()
    eventually(lambda: not before & sessions_of(world, part.name), 5, "the end of the refused session")


@pytest.mark.parametrize("sqlstate", ["40001", "23505"])
def test_what_a_statement_is_to_blame_for_costs_no_connection(world: World, sqlstate: str) -> None:
    part = orm(world)
    part.act()
    (pid,) = sessions_of(world, part.name)
    with refusing(world, part.table, sqlstate), told(sqlstate):
        part.act()
    part.act()
    assert sessions_of(world, part.name) == {pid}
    part.close()


def test_a_read_only_session_is_not_even_opened(world: World, connect: Callable[..., Any]) -> None:
    """Fails when readers stay on a standby, or keep a session of the time when nobody could
    write.
    """
    name = world.ask("SELECT current_database()")[0][0]
    owned = OwnedConnection(world.database_url, "reader", call_seconds=5)
    world.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    for _ in range(2):
        with pytest.raises(psycopg2.OperationalError, match="takes no writes"):
            owned.get()
    eventually(lambda: not sessions_of(world, "reader"), 5, "the end of what was opened to look")
    world.do(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert owned.get().closed == 0
    owned.close()


def test_while_nothing_can_be_written_no_worker_is_found_dead(world: World) -> None:
    """Fails when a sweeper watches hearts that cannot beat, on a session that became read-only."""
    seconds = 0.0
    duty = DeadWorkers(10, 1, lambda: seconds)
    owned = OwnedConnection(world.database_url, "sweep", call_seconds=5)
    worker = world.rows.insert("workers", heartbeat_at="2020-01-01")["id"]
    duty.do(owned)
    with owned.get().cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on; COMMIT")
    seconds += 60
    with pytest.raises(psycopg2.OperationalError, match="takes no writes"):
        duty.do(owned)
    assert duty.do(owned) == 0, "the clock has started anew"
    assert world.ask("SELECT id::text FROM workers") == [(worker,)]
    owned.close()
