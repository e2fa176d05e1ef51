"""A stranger finds nothing of another tenant's, by no id."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy.orm import Session

from api.auth.passwords import hash_password
from shared.crypto import token_hash
from shared.db import make_engine
from shared.models import ApiKey, User
from tests.peers.receiver import Receiver
from tests.running import Running

STRANGER_KEY = "pm_live_the-stranger"
READER_KEY = "pm_live_the-reader"


@pytest.fixture(scope="module")
def stranger(pointsman: Running) -> Iterator[httpx.Client]:
    engine = make_engine(pointsman.database_url, "test", pool_size=1)
    with Session(engine) as session, session.begin():
        user = User(email="stranger@example.com", password=hash_password("x"))
        session.add(user)
        session.flush()
        for key, permissions in ((STRANGER_KEY, ["read", "write"]), (READER_KEY, ["read"])):
            session.add(
                ApiKey(
                    name="k", key=token_hash(key), prefix=key[:12], user_id=user.id, permissions=permissions
                )
            )
    engine.dispose()
    headers = {"authorization": f"Bearer {STRANGER_KEY}"}
    with httpx.Client(base_url=f"{pointsman.url}/api/v1", headers=headers, trust_env=False) as client:
        yield client


def test_every_route_with_an_id_is_404_for_a_stranger(
    pointsman: Running, receiver: Receiver, stranger: httpx.Client
) -> None:
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "STORE", "config": {}}])
    action = callback["actions"][0]["id"]
    trigger = pointsman.fire(callback)
    pointsman.ended(trigger)
    item = pointsman.api.get("/api/v1/stored-items", params={"callbackId": callback["id"]}).json()["items"][
        0
    ]["id"]
    execution = pointsman.trigger(trigger)["executions"][0]["id"]
    job = pointsman.api.post("/api/v1/replays", json={"callbackId": callback["id"]}).json()["id"]
    new_action = {"type": "STORE", "config": {}}

    answers = [
        stranger.get(f"/callbacks/{callback['id']}"),
        stranger.patch(f"/callbacks/{callback['id']}", json={"name": "mine"}),
        stranger.delete(f"/callbacks/{callback['id']}"),
        stranger.get(f"/callbacks/{callback['id']}/actions"),
        stranger.post(f"/callbacks/{callback['id']}/actions", json=new_action),
        stranger.get(f"/callbacks/{callback['id']}/logs"),
        stranger.get(f"/actions/{action}"),
        stranger.patch(f"/actions/{action}", json={"enabled": False}),
        stranger.delete(f"/actions/{action}"),
        stranger.get(f"/triggers/{trigger}"),
        stranger.get(f"/stored-items/{item}"),
        stranger.get(f"/executions/{execution}"),
        stranger.post(f"/executions/{execution}/retry"),
        stranger.post(f"/triggers/{trigger}/replay", json={"from": "start"}),
        stranger.post(f"/triggers/{trigger}/cancel"),
        stranger.post("/replays", json={"callbackId": callback["id"]}),
        stranger.get(f"/replays/{job}"),
        stranger.post(f"/replays/{job}/cancel"),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert pointsman.api.get(f"/api/v1/callbacks/{callback['id']}").json()["name"] == "test"


def test_a_strangers_lists_are_empty(pointsman: Running, receiver: Receiver, stranger: httpx.Client) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    pointsman.ended(pointsman.fire(callback))
    for path in (
        "/callbacks",
        "/triggers",
        "/executions",
        "/replays",
        "/stored-items",
        f"/triggers?callbackId={callback['id']}",
    ):
        assert stranger.get(path).json() == {"items": [], "nextCursor": None}


def test_a_status_url_of_another_callback_is_404(pointsman: Running, receiver: Receiver) -> None:
    one, other = pointsman.callback(receiver.url("/ok")), pointsman.callback(receiver.url("/ok"))
    trigger = pointsman.fire(one)
    assert httpx.get(f"{one['triggerUrl']}/{trigger}", trust_env=False).status_code == 200
    assert httpx.get(f"{other['triggerUrl']}/{trigger}", trust_env=False).status_code == 404


def test_a_key_with_read_only_changes_nothing(pointsman: Running, stranger: httpx.Client) -> None:
    headers = {"authorization": f"Bearer {READER_KEY}"}
    assert stranger.get("/callbacks", headers=headers).status_code == 200
    refused = stranger.post("/callbacks", headers=headers, json={"name": "x", "callbackUrl": "http://x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_secrets_are_masked_when_an_action_is_read(pointsman: Running, receiver: Receiver) -> None:
    config = {"url": receiver.url("/ok"), "headers": {"Authorization": "Bearer canary-1", "X-Plain": "seen"}}
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "HTTP_POST", "config": config}])
    shown = pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").text
    assert "canary-1" not in shown
    assert "seen" in shown
    pointsman.ended(pointsman.fire(callback))
    assert receiver.receipts[-1].headers["authorization"] == "Bearer canary-1"
    assert "canary-1" not in pointsman.log()
