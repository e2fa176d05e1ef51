"""Servers of our own for the whole session, and a migrated database to copy.

`database_url` is a copy for a module (tests roll back), `own_database_url` one for a single test
that commits, `empty_database_url` one that was never migrated.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
import redis
from psycopg2 import sql

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey
from migrations.migrate import upgrade
from shared.postgres import connections
from tests.peers.receiver import Receiver
from tests.rows import Rows
from tests.world import World

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "server", options={"fsync": "off"})
    postgres.prepare()
    process = postgres.spawn(subprocess.DEVNULL)
    try:
        postgres.wait_ready(process)
        yield postgres
    finally:
        postgres.stop(process)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey") / "server")
    server.prepare()
    process = server.spawn(subprocess.DEVNULL)
    try:
        server.wait_ready(process)
        yield server
    finally:
        server.stop(process)


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> Iterator[str]:
    """The URL of an empty Valkey."""
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.flushall()
        yield valkey.url
        client.flushall()


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> str:
    server.ensure_database(TEMPLATE)
    upgrade(server.url_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="module")
def database_url(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    with database_on(server, template) as url:
        yield url


@pytest.fixture
def own_database_url(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    with database_on(server, template) as url:
        yield url


@pytest.fixture
def empty_database_url(server: EmbeddedPostgres) -> Iterator[str]:
    with database_on(server, "template0") as url:
        yield url


@pytest.fixture
def cursor(database_url: str) -> Iterator[Any]:
    """A cursor whose work is rolled back."""
    with (
        closing(connections.connect(database_url, "test", call_seconds=60)) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@pytest.fixture
def connect(own_database_url: str) -> Iterator[Callable[..., Any]]:
    """Open connections to the test's own database; autocommit unless told otherwise."""
    opened = []

    def connect(autocommit: bool = True) -> Any:
        connection = connections.connect(own_database_url, "test", call_seconds=60)
        opened.append(connection)
        connection.autocommit = autocommit
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def rows(cursor: Any) -> Rows:
    return Rows(cursor)


@contextmanager
def database_on(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with closing(psycopg2.connect(server.url_of("postgres"))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        try:
            yield server.url_of(name)
        finally:
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def world(own_database_url: str, connect: Callable[..., Any]) -> World:
    """One user and one callback, in a database of the test's own."""
    return World(own_database_url, connect().cursor())


@pytest.fixture
def stranger(world: World) -> World:
    """Another tenant, with a callback of its own, in the same database."""
    return World(world.database_url, world.cursor)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
