"""Nobody but a tenant finds, changes or learns of what is theirs: every route, with every kind of token.

The calls are made from the URL map. A route that is not in CALLS or PUBLIC fails: say there what a call of it looks like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api.app import make_app
from api.auth.policies import Policy
from api.management import FACES
from api.management.face import Endpoint
from api.services import make_services
from shared import db
from shared.config import Settings
from shared.crypto import new_key, token_hash
from tests.peers.receiver import Receiver
from tests.rows import Rows
from tests.running import Running

PUBLIC = {
    "/t/<token>",
    "/c/<path>",
    "/t/<token>/<trigger_id>",
    "/c/<path>/<trigger_id>",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/openapi.json",
    "/api/v1/auth/login",
}
"""Routes that ask for nobody."""

NEW_CALLBACK = {"name": "a stranger's", "callbackUrl": "http://127.0.0.1:9/"}
CALLS: dict[str, tuple[str, Any]] = {
    "log_out": ("", None),
    "get_me": ("", None),
    "list_callbacks": ("", None),
    "create_callback": ("", NEW_CALLBACK),
    "get_callback": ("callback", None),
    "change_callback": ("callback", {"name": "taken"}),
    "delete_callback": ("callback", None),
    "list_actions": ("callback", None),
    "create_action": ("callback", {"type": "STORE", "config": {}}),
    "get_action": ("action", None),
    "change_action": ("action", {"enabled": False}),
    "delete_action": ("action", None),
    "list_triggers": ("", None),
    "get_trigger": ("trigger", None),
    "cancel_trigger": ("trigger", None),
    "replay_trigger": ("trigger", {"from": "start"}),
    "list_executions": ("", None),
    "get_execution": ("execution", None),
    "retry_execution": ("execution", None),
    "list_logs": ("callback", None),
    "create_replay_job": ("", {"callbackId": "callback"}),
    "list_replay_jobs": ("", None),
    "get_replay_job": ("job", None),
    "cancel_replay_job": ("job", None),
    "list_stored_items": ("", None),
    "get_stored_item": ("item", None),
}
"""Each endpoint: whose id stands in its path, and the body of a call that would do something."""

OWN = {"get_me", "create_callback", "log_out"}
"""What a stranger may do: it is about themselves."""

ENDPOINTS = {endpoint.name: endpoint for face in FACES for endpoint in face.endpoints}
ASKING = sorted(name for name, endpoint in ENDPOINTS.items() if not endpoint.policy.is_anonymous)


@dataclass(frozen=True)
class Owned:
    """What a tenant has: one of everything, by kind."""

    ids: dict[str, str]

    def request(self, endpoint: Endpoint) -> dict[str, Any]:
        """A call of this endpoint about this tenant's things, as arguments for httpx."""
        kind, body = CALLS[endpoint.name]
        path = endpoint.rule.replace("<uuid:id>", self.ids[kind]) if kind else endpoint.rule
        if body == {"callbackId": "callback"}:
            body = {"callbackId": self.ids["callback"]}
        return {"method": endpoint.method, "url": path, **({} if body is None else {"json": body})}


@pytest.fixture(scope="module")
def owned(pointsman: Running) -> Iterator[Owned]:
    with Receiver() as receiver:
        callback = pointsman.callback(receiver.url("/ok"), [{"type": "STORE", "config": {}}])
        trigger = pointsman.fire(callback)
        pointsman.ended(trigger)
        items = pointsman.api.get("/api/v1/stored-items", params={"callbackId": callback["id"]}).json()
        job = pointsman.api.post("/api/v1/replays", json={"callbackId": callback["id"]}).json()
        yield Owned(
            {
                "callback": callback["id"],
                "action": callback["actions"][0]["id"],
                "trigger": trigger,
                "item": items["items"][0]["id"],
                "execution": pointsman.trigger(trigger)["executions"][0]["id"],
                "job": job["id"],
            }
        )


@dataclass(frozen=True)
class Tokens:
    """The tokens of strangers, by what is wrong with them; "stranger" and "session" are good ones of another tenant."""

    by_kind: dict[str, str]

    def headers(self, kind: str) -> dict[str, str]:
        return {} if kind == "anonymous" else {"authorization": f"Bearer {self.by_kind[kind]}"}


@pytest.fixture(scope="module")
def tokens(pointsman: Running) -> Iterator[Tokens]:
    connection = db.connect(pointsman.database_url, "test", call_seconds=60, autocommit=True)
    with connection.cursor() as cursor:
        rows = Rows(cursor)
        stranger = rows.insert("users", email="stranger@example.com")["id"]
        idle = rows.insert("users", is_active=False)["id"]
        marked = rows.insert("users", deleted_at="now")["id"]
        made: dict[str, str] = {}

        def key(kind: str, user_id: str, permissions: list[str], **fields: Any) -> None:
            made[kind] = f"pm_live_{kind}"
            rows.insert(
                "api_keys",
                user_id=user_id,
                key=token_hash(made[kind]),
                permissions=permissions,
                **fields,
            )

        def session(kind: str, user_id: str, expires_at: str) -> None:
            made[kind] = f"pms_{kind}"
            rows.insert("sessions", user_id=user_id, token_hash=token_hash(made[kind]), expires_at=expires_at)

        everything = ["read", "write", "admin"]
        key("stranger", stranger, everything)
        key("read-only", stranger, ["read"])
        key("expired key", stranger, everything, expires_at="2020-01-01T00:00:00Z")
        key("deactivated key", idle, everything)
        key("deleted user's key", marked, everything)
        session("session", stranger, "2100-01-01T00:00:00Z")
        session("expired session", stranger, "2020-01-01T00:00:00Z")
        session("deactivated session", idle, "2100-01-01T00:00:00Z")
        made["revoked key"], made["ended session"] = "pm_live_revoked", "pms_ended"
        yield Tokens(made)
    connection.close()


NOBODY = (
    "anonymous",
    "expired key",
    "expired session",
    "revoked key",
    "ended session",
    "deactivated key",
    "deactivated session",
    "deleted user's key",
)


@pytest.fixture(scope="module")
def client(pointsman: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pointsman.url, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(pointsman: Running, tokens: Tokens) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{pointsman.url}/api/v1", headers=tokens.headers("stranger"), trust_env=False
    ) as client:
        yield client


def test_every_route_is_known_here() -> None:
    """A new route: say in CALLS what a call of it looks like, or in PUBLIC that anybody may."""
    settings = Settings(database_url="postgresql://x", redis_url="redis://x", secret_keys=new_key())
    app = make_app(make_services(settings))
    served = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    served = {(rule, method) for rule, method in served if method not in ("HEAD", "OPTIONS")}
    known = {(endpoint.rule, endpoint.method) for endpoint in ENDPOINTS.values() if endpoint.name in CALLS}
    assert {one for one in served - known if one[0] not in PUBLIC} == set()
    assert set(CALLS) == set(ASKING), "each is asked for, and nothing else stands here"


@pytest.mark.parametrize("kind", NOBODY)
@pytest.mark.parametrize("name", ASKING)
def test_nobody_gets_in(client: httpx.Client, owned: Owned, tokens: Tokens, name: str, kind: str) -> None:
    answer = client.request(**owned.request(ENDPOINTS[name]), headers=tokens.headers(kind))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("kind", ["stranger", "session"])
@pytest.mark.parametrize("name", [name for name in ASKING if name != "log_out"])
def test_another_tenant_finds_nothing(
    client: httpx.Client, owned: Owned, tokens: Tokens, name: str, kind: str
) -> None:
    endpoint = ENDPOINTS[name]
    answer = client.request(**owned.request(endpoint), headers=tokens.headers(kind))
    if name in OWN:
        assert answer.is_success
    elif CALLS[name] == ("", None):
        assert all(one not in answer.text for one in owned.ids.values()), "a list of the stranger's own"
    else:
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ASKING)
def test_a_key_with_read_only_changes_nothing(
    client: httpx.Client, owned: Owned, tokens: Tokens, name: str
) -> None:
    endpoint = ENDPOINTS[name]
    answer = client.request(**owned.request(endpoint), headers=tokens.headers("read-only"))
    if endpoint.policy.scope == "read":
        assert answer.status_code == (404 if "<uuid" in endpoint.rule else 200)
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_what_needs_a_session_refuses_keys(client: httpx.Client, tokens: Tokens) -> None:
    needing = [endpoint for endpoint in ENDPOINTS.values() if endpoint.policy.session_only]
    assert [endpoint.name for endpoint in needing] == ["log_out"]
    answer = client.post(needing[0].rule, headers=tokens.headers("stranger"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_each_get_reads_and_everything_else_writes() -> None:
    """Fails when a route that changes something asks for less than `write`."""
    for endpoint in ENDPOINTS.values():
        policy: Policy = endpoint.policy
        if not policy.is_anonymous:
            assert policy.scope == "read" if endpoint.method == "GET" else policy.scope in ("write", "admin")


def test_nothing_of_the_owners_was_changed(pointsman: Running, owned: Owned) -> None:
    """Runs behind the others: everything is still there, as it was."""
    assert pointsman.api.get(f"/api/v1/callbacks/{owned.ids['callback']}").json()["name"] == "test"
    assert pointsman.api.get(f"/api/v1/actions/{owned.ids['action']}").json()["enabled"] is True
    listed = pointsman.api.get("/api/v1/triggers", params={"callbackId": owned.ids["callback"]}).json()
    assert [trigger["id"] for trigger in listed["items"]] == [owned.ids["trigger"]]


def test_a_strangers_lists_are_empty(pointsman: Running, receiver: Receiver, stranger: httpx.Client) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    pointsman.ended(pointsman.fire(callback))
    assert callback["id"] not in stranger.get("/callbacks").text
    for path in (
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


def test_secrets_are_masked_when_an_action_is_read(pointsman: Running, receiver: Receiver) -> None:
    config = {"url": receiver.url("/ok"), "headers": {"Authorization": "Bearer canary-1", "X-Plain": "seen"}}
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "HTTP_POST", "config": config}])
    shown = pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").text
    assert "canary-1" not in shown
    assert "seen" in shown
    pointsman.ended(pointsman.fire(callback))
    assert receiver.receipts[-1].headers["authorization"] == "Bearer canary-1"
    assert "canary-1" not in pointsman.log()
