"""The migration that masks credentials in the headers of calls recorded before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from alembic import command

from migrations.migrate import _config, upgrade
from shared.postgres.partitions import ensure_partitions
from tests.rows import Rows

OPEN = [
    ["host", "x"],
    ["authorization", "Bearer canary"],
    ["cookie", "a=canary"],
    ["Cookie", "b=canary \u00e9\"'%s"],
    ["x-plain", "authorization"],
    ["proxy-authorization", "canary"],
    ["authorization", ""],
]
MASKED = [
    ["host", "x"],
    ["authorization", "***"],
    ["cookie", "***"],
    ["Cookie", "***"],
    ["x-plain", "authorization"],
    ["proxy-authorization", "***"],
    ["authorization", "***"],
]
# Nobody can have set these by a call.
ODD: list[Any] = [{}, [], {"authorization": "x"}, [["authorization"]], ["authorization"], [[1, 2], None]]


WITHOUT_HEADERS = "to_jsonb(triggers) - 'headers'"


@pytest.fixture
def cursor(empty_database_url: str) -> Iterator[Any]:
    """A database as the version before had it, with partitions."""
    command.upgrade(_config(empty_database_url), "0011")
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        ensure_partitions(cursor)
        connection.commit()
        connection.autocommit = True
        yield cursor


def recorded(cursor: Any, column: str) -> dict[str, Any]:
    cursor.execute(f"SELECT id::text, {column} FROM triggers")
    return dict(cursor.fetchall())


def test_credentials_are_masked_and_nothing_else_changes(empty_database_url: str, cursor: Any) -> None:
    rows = Rows(cursor)
    masked = [(OPEN, MASKED), *((headers, headers) for headers in [MASKED, *ODD, [["x", "y"]]])]
    wanted = {rows.insert("triggers", headers=json.dumps(given))["id"]: headers for given, headers in masked}
    cursor.execute("SELECT id::text FROM triggers WHERE headers::text LIKE '%canary%'")
    ((changed,),) = cursor.fetchall()
    rest, versions = recorded(cursor, WITHOUT_HEADERS), recorded(cursor, "xmin::text")

    upgrade(empty_database_url)

    assert recorded(cursor, "headers") == wanted
    assert recorded(cursor, WITHOUT_HEADERS) == rest
    written = {row for row, version in recorded(cursor, "xmin::text").items() if version != versions[row]}
    assert written == {changed}


def test_every_row_of_every_portion_is_masked(empty_database_url: str, cursor: Any) -> None:
    """Fails when a portion is passed over, or when only the first is read."""
    user = Rows(cursor).insert("triggers", headers="[]")
    cursor.execute(
        "INSERT INTO triggers (id, callback_id, user_id, method, path, headers, body)"
        " SELECT overlay(t.id::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, t.callback_id, t.user_id,"
        " t.method, t.path, CASE WHEN n %% 3 = 0 THEN %s ELSE '[]' END::jsonb, t.body"
        " FROM triggers t, generate_series(1, 12001) n WHERE t.id = %s",
        (json.dumps(OPEN), user["id"]),
    )
    upgrade(empty_database_url)
    cursor.execute("SELECT count(*), count(*) FILTER (WHERE headers::text LIKE '%canary%') FROM triggers")
    assert cursor.fetchone() == (12_002, 0)
    cursor.execute("SELECT count(*) FROM triggers WHERE headers = %s::jsonb", (json.dumps(MASKED),))
    assert cursor.fetchone() == (4_000,)
