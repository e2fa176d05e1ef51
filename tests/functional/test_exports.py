"""All triggers of a list as lines: `GET /api/v1/triggers.ndjson`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from api.lines import MAX_OF_ONE
from api.resources.triggers import LINES_READ
from shared.crypto import token_hash
from shared.postgres import connections
from tests.rows import Rows
from tests.running import Running, eventually

EXPORT = "/api/v1/triggers.ndjson"
OTHER_KEY = "pm_live_another_tenant"

# More than two pages of the export, and of all callbacks more than the sockets between hold.
OF_ONE, OF_ALL = 2 * LINES_READ + 100, 30_000

_MAKE = """
WITH made AS MATERIALIZED (SELECT uuidv7() AS id, n FROM generate_series(1, %(count)s) AS n),
t AS (INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, body, source_ip)
  SELECT made.id, c.id, c.user_id, 'POST', '/t/made', '', '[]', '', '127.0.0.1' FROM made, callbacks c WHERE c.id = %(id)s)
INSERT INTO logs (id, callback_id, user_id, event, details, success)
SELECT made.id, c.id, c.user_id, 'trigger.settled', '{}', n %% 3 > 0 FROM made, callbacks c WHERE c.id = %(id)s
"""


def make(pointsman: Running, callback: str, count: int) -> None:
    """Settled triggers of a callback, every third one failed."""
    with rows_of(pointsman) as rows:
        rows.cursor.execute(_MAKE, {"count": count, "id": callback})


@pytest.fixture(scope="module")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One of its own: others would list what is made here."""
    with Running(tmp_path_factory.mktemp("exports"), {"POINTSMAN_WORKERS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def other(pointsman: Running) -> Iterator[httpx.Client]:
    """Another tenant."""
    with rows_of(pointsman) as rows:
        user = rows.insert("users", email="another@example.com")["id"]
        rows.insert("api_keys", user_id=user, key=token_hash(OTHER_KEY), permissions=["read", "write"])
    headers = {"authorization": f"Bearer {OTHER_KEY}"}
    with httpx.Client(base_url=pointsman.url, timeout=10, trust_env=False, headers=headers) as client:
        yield client


@contextmanager
def rows_of(pointsman: Running) -> Iterator[Rows]:
    connection = connections.connect(pointsman.database_url, "test", call_seconds=60, autocommit=True)
    try:
        with connection.cursor() as cursor:
            yield Rows(cursor)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def callbacks(pointsman: Running, other: httpx.Client) -> dict[str, str]:
    """By whose they are. Nothing is delivered to them."""
    url = "http://127.0.0.1:9/"
    made = {
        "one": pointsman.callback(url)["id"],
        "many": pointsman.callback(url)["id"],
        "other": pointsman.callback(url, api=other)["id"],
    }
    make(pointsman, made["one"], OF_ONE)
    make(pointsman, made["other"], 10)
    make(pointsman, made["many"], OF_ALL)
    make(pointsman, made["one"], 1)
    return made


def exported(client: httpx.Client, **filters: Any) -> list[dict[str, Any]]:
    answer = client.get(EXPORT, params=filters, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n") or not answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def listed(client: httpx.Client, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = client.get("/api/v1/triggers", params={**filters, "limit": 200, **more}).json()
        found += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("more", [{}, {"status": "FAILED"}, {"status": "PENDING"}])
def test_it_has_what_the_list_has(
    pointsman: Running, callbacks: dict[str, str], more: dict[str, str]
) -> None:
    filters = {"callbackId": callbacks["one"], **more}
    found = exported(pointsman.api, **filters)
    assert found == listed(pointsman.api, **filters)
    assert len(found) == {None: OF_ONE + 1, "FAILED": OF_ONE // 3, "PENDING": 0}[more.get("status")]


def test_each_tenant_gets_its_own(pointsman: Running, callbacks: dict[str, str], other: httpx.Client) -> None:
    assert {one["callbackId"] for one in exported(other)} == {callbacks["other"]}
    assert exported(other, callbackId=callbacks["one"]) == []
    mine = exported(pointsman.api)
    assert callbacks["other"] not in {one["callbackId"] for one in mine}
    assert len(mine) >= OF_ONE + OF_ALL + 1
    assert [one["id"] for one in mine] == sorted((one["id"] for one in mine), reverse=True)


def test_it_goes_on_behind_its_last_line(pointsman: Running, callbacks: dict[str, str]) -> None:
    whole = exported(pointsman.api, callbackId=callbacks["one"])
    rest = exported(pointsman.api, callbackId=callbacks["one"], cursor=whole[300]["id"])
    assert rest == whole[301:]


def test_what_it_does_not_know_is_refused(pointsman: Running) -> None:
    for query in ({"limit": 5}, {"status": "LATE"}, {"cursor": "x"}):
        answer = pointsman.api.get(EXPORT, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_look_at_it_gives_its_head(pointsman: Running) -> None:
    answer = pointsman.api.head(EXPORT)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert int(answer.headers.get("content-length", "0")) == 0, "nobody knows how long it will be"


def test_http_1_0_is_refused(pointsman: Running) -> None:
    """There a cut looks like an end."""
    with socket.create_connection(("127.0.0.1", pointsman.port)) as connection:
        token = pointsman.api.headers["authorization"]
        connection.sendall(f"GET {EXPORT} HTTP/1.0\r\nauthorization: {token}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert b" 400 " in answer.split(b"\r\n", 1)[0]
    assert b"http_1_1_needed" in answer


def test_a_long_content_type_is_cut_in_lists(pointsman: Running, callbacks: dict[str, str]) -> None:
    """Fails when a caller makes a page of a list as large as 200 heads."""
    shown = pointsman.api.get(f"/api/v1/callbacks/{callbacks['one']}").json()
    kind = "application/json; a=" + "x" * 5_000
    trigger = httpx.post(
        shown["triggerUrl"], headers={"content-type": kind}, content=b"{}", trust_env=False
    ).json()["triggerId"]
    (found,) = [one for one in exported(pointsman.api, callbackId=callbacks["one"]) if one["id"] == trigger]
    assert found["contentType"] == kind[:500]
    request = pointsman.api.get(f"/api/v1/triggers/{trigger}").json()["request"]
    assert ["content-type", kind] in request["headers"]


def test_a_callback_that_is_deleted_meanwhile_cuts_it_off(pointsman: Running) -> None:
    """Fails when a part is taken for the whole."""
    callback = pointsman.callback("http://127.0.0.1:9/")["id"]
    make(pointsman, callback, OF_ALL)
    with begun(pointsman, callbackId=callback) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["callbackId"] == callback
        assert pointsman.api.delete(f"/api/v1/callbacks/{callback}").status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in lines:
                pass


@contextmanager
def begun(pointsman: Running, token: str | None = None, **filters: str) -> Iterator[httpx.Response]:
    """An export of which the client takes the beginning. The kernel keeps little of it."""
    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)]
    with (
        httpx.Client(transport=httpx.HTTPTransport(socket_options=small), timeout=30) as client,
        client.stream(
            "GET",
            pointsman.url + EXPORT,
            params=filters,
            headers={"authorization": f"Bearer {token}" if token else pointsman.api.headers["authorization"]},
        ) as answer,
    ):
        yield answer


@pytest.mark.usefixtures("callbacks")
def test_a_user_takes_a_few_at_a_time(pointsman: Running, other: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_OF_ONE):
            assert stack.enter_context(begun(pointsman)).status_code == 200
        refused = pointsman.api.get(EXPORT)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_exports")
        assert len(exported(other)) == 10
    eventually(lambda: _is_free(pointsman), 20, "the others were given back")


def _is_free(pointsman: Running) -> bool:
    with begun(pointsman) as answer:
        return answer.status_code == 200


def test_a_token_that_is_revoked_meanwhile_ends_it(pointsman: Running, callbacks: dict[str, str]) -> None:
    """Fails when a stranger with an old key reads on, or takes a part for the whole."""
    ((user,),) = pointsman.query("SELECT user_id FROM callbacks WHERE id = %s", callbacks["one"])
    with rows_of(pointsman) as rows:
        rows.insert("api_keys", user_id=user, key=token_hash("pm_live_export"), permissions=["read"])
        with begun(pointsman, "pm_live_export") as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["id"]
            rows.cursor.execute("DELETE FROM api_keys WHERE key = %s", (token_hash("pm_live_export"),))
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in lines:
                    pass
    assert "answer_cut" in pointsman.log()
