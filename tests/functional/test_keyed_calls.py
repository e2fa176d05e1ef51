"""Management POSTs that bear an Idempotency-Key happen once, and their answers keep no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deploy.local.state import DataFolder
from shared.crypto import SecretBox, token_hash
from shared.postgres import connections
from tests.peers.receiver import Receiver
from tests.rows import Rows
from tests.running import ADMIN, Running


def post(client: httpx.Client, path: str, key: str | None, body: Any = None) -> httpx.Response:
    headers = {} if key is None else {"idempotency-key": key}
    return client.post(f"/api/v1{path}", headers=headers, json=body)


def new_callback(name: str = "keyed") -> dict[str, str]:
    return {"name": name, "callbackUrl": "http://127.0.0.1:9/"}


def names_of(client: httpx.Client) -> list[str]:
    return [one["name"] for one in client.get("/api/v1/callbacks", params={"limit": 200}).json()["items"]]


@pytest.fixture
def other(pointsman: Running) -> Iterator[httpx.Client]:
    """Another tenant."""
    token = f"pm_live_{uuid4().hex}"
    connection = connections.connect(pointsman.database_url, "test", call_seconds=60, autocommit=True)
    with connection.cursor() as cursor:
        Rows(cursor).insert("api_keys", key=token_hash(token), permissions=["read", "write"])
    connection.close()
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=pointsman.url, headers=headers, trust_env=False) as client:
        yield client


def test_a_repeated_call_is_told_its_first_answer_without_the_secret(pointsman: Running) -> None:
    key, name = uuid4().hex, uuid4().hex
    first, again = (post(pointsman.api, "/callbacks", key, new_callback(name)) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json().pop("signingSecret").startswith("whsec_")
    expected = {field: value for field, value in first.json().items() if field != "signingSecret"}
    assert again.json() == expected
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert names_of(pointsman.api).count(name) == 1


def test_a_key_with_another_body_is_409(pointsman: Running) -> None:
    key, name = uuid4().hex, uuid4().hex
    assert post(pointsman.api, "/callbacks", key, new_callback()).status_code == 201
    clash = post(pointsman.api, "/callbacks", key, new_callback(name))
    assert (clash.status_code, clash.json()["code"]) == (409, "idempotency_key_reused")
    assert name not in names_of(pointsman.api)


def test_a_key_names_a_call_of_its_user_and_its_path_only(pointsman: Running, other: httpx.Client) -> None:
    """Fails when one tenant's key answers another's call, or one path's another's."""
    key = uuid4().hex
    mine = post(pointsman.api, "/callbacks", key, new_callback()).json()
    theirs = post(other, "/callbacks", key, new_callback())
    assert (theirs.status_code, "idempotent-replayed" in theirs.headers) == (201, False)
    assert theirs.json()["id"] != mine["id"]
    action = {"type": "STORE", "config": {}}
    for callback in (mine, post(pointsman.api, "/callbacks", None, new_callback()).json()):
        added = post(pointsman.api, f"/callbacks/{callback['id']}/actions", key, action)
        assert (added.status_code, added.json()["callbackId"]) == (201, callback["id"])


def test_a_path_in_another_spelling_is_the_same_call(pointsman: Running) -> None:
    """Fails when the key belongs to what was typed: a proxy that adds a slash would double the
    call.
    """
    callback = post(pointsman.api, "/callbacks", None, new_callback()).json()
    key, action = uuid4().hex, {"type": "STORE", "config": {}}
    paths = [
        f"/callbacks/{one}/actions{slash}"
        for one in (callback["id"], callback["id"].upper())
        for slash in ("", "/")
    ]
    made = {post(pointsman.api, path, key, action).json()["id"] for path in paths}
    assert len(made) == 1


def test_equal_calls_at_the_same_time_happen_once(pointsman: Running) -> None:
    """Fails when the key is not taken in the transaction of the change, before it."""
    key, name = uuid4().hex, uuid4().hex
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: post(pointsman.api, "/callbacks", key, new_callback(name)), range(8))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("signingSecret" in answer.json() for answer in answers) == 1
    assert names_of(pointsman.api).count(name) == 1


def test_a_call_that_failed_can_be_repeated_with_its_key(pointsman: Running) -> None:
    key, path = uuid4().hex, uuid4().hex
    body = {**new_callback(), "customPath": path}
    in_the_way = post(pointsman.api, "/callbacks", None, body).json()
    assert post(pointsman.api, "/callbacks", key, body).status_code == 409
    assert pointsman.api.delete(f"/api/v1/callbacks/{in_the_way['id']}").status_code == 204
    assert post(pointsman.api, "/callbacks", key, body).status_code == 201


def test_a_replay_that_is_asked_for_twice_runs_once(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    trigger = pointsman.fire(callback)
    pointsman.ended(trigger)
    key = uuid4().hex
    first, again = (
        post(pointsman.api, f"/triggers/{trigger}/replay", key, {"from": "start"}) for _ in range(2)
    )
    assert first.json()["id"] == again.json()["id"]
    pointsman.ended(first.json()["id"])
    listed = pointsman.api.get("/api/v1/triggers", params={"callbackId": callback["id"]}).json()["items"]
    assert len(listed) == 2


def test_answers_are_sealed_at_rest_and_forgotten_after_a_day(pointsman: Running) -> None:
    key, name = uuid4().hex, uuid4().hex
    first = post(pointsman.api, "/callbacks", key, new_callback(name)).json()
    ((row, hours),) = pointsman.query(
        "SELECT to_jsonb(k)::text, extract(epoch FROM expires_at - created_at) / 3600 FROM kept_answers k WHERE key = %s",
        key,
    )
    assert hours == 24
    for secret in (name, first["triggerToken"], first["signingSecret"]):
        assert secret not in row
    box = SecretBox(DataFolder(pointsman.folder / "data").secret_keys())
    kept = box.decrypt(json.loads(row)["answer"])
    assert first["id"] in kept
    assert first["signingSecret"] not in kept, "what is shown once is not kept at all"
    pointsman.query(
        "UPDATE kept_answers SET expires_at = now() - interval '1 s' WHERE key = %s RETURNING key", key
    )
    assert post(pointsman.api, "/callbacks", key, new_callback(name)).json()["id"] != first["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_cannot_be_one_is_400(pointsman: Running, key: str) -> None:
    answer = post(pointsman.api, "/callbacks", key, new_callback())
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")


def test_logging_in_takes_no_key(pointsman: Running) -> None:
    """Fails when a token is told to whoever knows a key."""
    body = {"email": ADMIN[0], "password": ADMIN[1]}
    key = uuid4().hex
    tokens = {post(pointsman.api, "/auth/login", key, body).json()["token"] for _ in range(2)}
    assert len(tokens) == 2
