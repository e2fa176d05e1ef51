"""Nobody but a tenant finds, changes or learns of what is theirs: every route, with every kind of
token.

The calls are made from the URL map. A route that is not in CALLS or PUBLIC fails: say there what a
call of it looks like.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema_rs
import pytest

from api.app import make_app
from api.auth.policies import Policy
from api.management import FACES
from api.management.face import FILE_TYPE, Endpoint
from api.management.flowing import LINES_TYPE
from api.services import make_services
from shared.config import Settings
from shared.crypto import new_key, token_hash
from shared.postgres import connections
from tests.peers.receiver import Receiver
from tests.rows import Rows
from tests.running import Running

ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
PUBLIC = {
    *(("/t/<token>", method) for method in ANY),
    *(("/c/<path>", method) for method in ANY),
    ("/t/<token>/<trigger_id>", "GET"),
    ("/c/<path>/<trigger_id>", "GET"),
    ("/", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/metrics", "GET"),
    ("/api/v1/openapi.json", "GET"),
    ("/api/v1/auth/login", "POST"),
}
"""Routes that ask for nobody."""

BODY = b'{"of": "the owner"}'
NEW_CALLBACK = {"name": "a stranger's", "callbackUrl": "http://127.0.0.1:9/"}
NEW_CREDENTIAL = {
    "name": "a credential",
    "provider": "GENERIC",
    "secret": "s3cret",
    "meta": {"kind": "bearer", "origins": ["http://127.0.0.1:9"]},
}
CALLS: dict[str, tuple[str, Any]] = {
    "log_out": ("own", None),
    "get_me": ("own", None),
    "list_callbacks": ("list", None),
    "create_callback": ("own", NEW_CALLBACK),
    "get_callback": ("callback", None),
    "change_callback": ("callback", {"name": "taken"}),
    "delete_callback": ("callback", None),
    "rotate_secret": ("callback", {"graceSeconds": 0}),
    "rotate_token": ("callback", {"graceSeconds": 0}),
    "list_actions": ("callback", None),
    "create_action": ("callback", {"type": "STORE", "config": {}}),
    "get_action": ("action", None),
    "change_action": ("action", {"enabled": False}),
    "delete_action": ("action", None),
    "preview_action": ("body", {"actionId": "action"}),
    "try_condition": ("body", {"callbackId": "callback", "condition": "body.of"}),
    "list_credentials": ("list", None),
    "create_credential": ("own", NEW_CREDENTIAL),
    "get_credential": ("credential", None),
    "change_credential": ("credential", {"name": "taken", "secret": "taken"}),
    "delete_credential": ("credential", None),
    "test_action": ("action", {}),
    "test_credential": ("credential", None),
    "get_probe": ("probe", None),
    "list_triggers": ("list", {"callbackId": "callback"}),
    "export_triggers": ("list", {"callbackId": "callback"}),
    "get_trigger": ("trigger", None),
    "get_trigger_body": ("trigger", None),
    "cancel_trigger": ("trigger", None),
    "replay_trigger": ("trigger", {"from": "start"}),
    "list_executions": ("list", {"actionId": "action"}),
    "get_execution": ("execution", None),
    "retry_execution": ("execution", None),
    "list_logs": ("callback", None),
    "create_replay_job": ("body", {"callbackId": "callback"}),
    "list_replay_jobs": ("list", None),
    "get_replay_job": ("job", None),
    "cancel_replay_job": ("job", None),
    "list_stored_items": ("list", {"callbackId": "callback"}),
    "get_stored_item": ("item", None),
    "get_stored_item_content": ("item", None),
}
"""Each endpoint: what a call is about, and its body or, of a list, its query.

A kind of thing: its id stands in the path. body: its id stands in the body. list: of the caller's
own things, also when it is asked for another's. own: about the caller, who may.
"""

ENDPOINTS = {endpoint.name: endpoint for face in FACES for endpoint in face.endpoints}
ASKING = sorted(name for name, endpoint in ENDPOINTS.items() if not endpoint.policy.is_anonymous)


@dataclass(frozen=True)
class Owned:
    """What a tenant has: one of everything, by kind."""

    ids: dict[str, str]

    def request(self, endpoint: Endpoint) -> dict[str, Any]:
        """A call of this endpoint about this tenant's things, as arguments for httpx."""
        kind, given = CALLS[endpoint.name]
        path = endpoint.rule.replace("<uuid:id>", self.ids[kind]) if kind in self.ids else endpoint.rule
        if given is not None:
            given = {name: self.ids.get(str(value), value) for name, value in given.items()}
        where = "params" if kind == "list" else "json"
        return {"method": endpoint.method, "url": path, **({} if given is None else {where: given})}

    def seen_by(self, owner: httpx.Client) -> dict[str, Any]:
        """Everything that its owner sees of it."""
        reading = [
            endpoint
            for endpoint in ENDPOINTS.values()
            if endpoint.method == "GET" and endpoint.name != "get_me"
        ]
        return {endpoint.name: _seen(owner.request(**self.request(endpoint))) for endpoint in reading}


def _seen(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.headers["content-type"] == "application/json" else answer.content


@pytest.fixture(scope="module")
def owned(pointsman: Running) -> Iterator[Owned]:
    with Receiver() as receiver:
        callback = pointsman.callback(receiver.url("/ok"), [{"type": "STORE", "config": {}}])
        trigger = pointsman.fire(callback, content=BODY)
        pointsman.ended(trigger)
        items = pointsman.api.get("/api/v1/stored-items", params={"callbackId": callback["id"]}).json()
        credential = pointsman.api.post("/api/v1/credentials", json=NEW_CREDENTIAL).json()
        primary = pointsman.primary(callback, enabled=True)["id"]
        probe = pointsman.api.post(f"/api/v1/actions/{primary}/test", json={}, timeout=40).json()
        job = pointsman.api.post("/api/v1/replays", json={"callbackId": callback["id"]}).json()
        yield Owned(
            {
                "callback": callback["id"],
                "action": callback["actions"][0]["id"],
                "trigger": trigger,
                "item": items["items"][0]["id"],
                "execution": pointsman.trigger(trigger)["executions"][0]["id"],
                "job": job["id"],
                "credential": credential["id"],
                "probe": probe["id"],
            }
        )


@dataclass(frozen=True)
class Tokens:
    """The tokens of strangers, by what is wrong with them; "stranger" and "session" are good ones
    of another tenant.
    """

    by_kind: dict[str, str]

    def headers(self, kind: str) -> dict[str, str]:
        return {} if kind == "anonymous" else {"authorization": f"Bearer {self.by_kind[kind]}"}


@pytest.fixture(scope="module")
def tokens(pointsman: Running) -> Iterator[Tokens]:
    connection = connections.connect(pointsman.database_url, "test", call_seconds=60, autocommit=True)
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
        key("revoked key", stranger, everything)
        cursor.execute("DELETE FROM api_keys WHERE key = %s", (token_hash(made["revoked key"]),))
        session("ended session", stranger, "2100-01-01T00:00:00Z")
        ended = {"authorization": f"Bearer {made['ended session']}"}
        assert (
            httpx.post(f"{pointsman.url}/api/v1/auth/logout", headers=ended, trust_env=False).status_code
            == 204
        )
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
    assert served - known == PUBLIC
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
    kind = CALLS[name][0]
    if kind == "own":
        assert answer.is_success
    elif kind == "list":
        assert answer.status_code == 200
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


def test_nothing_of_the_owners_was_changed(
    pointsman: Running, client: httpx.Client, owned: Owned, tokens: Tokens
) -> None:
    """Every call that would change something, by everybody who may not, and then everything is as
    it was.
    """
    before = owned.seen_by(pointsman.api)
    for kind in (*NOBODY, "read-only", "stranger", "session"):
        for name in ASKING:
            if ENDPOINTS[name].method != "GET" and CALLS[name][0] != "own":
                client.request(**owned.request(ENDPOINTS[name]), headers=tokens.headers(kind))
    after = owned.seen_by(pointsman.api)
    assert after == before
    assert before["get_callback"]["id"] == owned.ids["callback"], "there is something to see"


def test_the_owner_is_answered_as_described(pointsman: Running, owned: Owned) -> None:
    """What is there is shown, in the shape that the description gives it.

    Fails when a model says what is not so.
    """
    description = pointsman.api.get("/api/v1/openapi.json").json()
    for name, answer in owned.seen_by(pointsman.api).items():
        path = ENDPOINTS[name].rule.replace("<uuid:id>", "{id}")
        ((content_type, content),) = description["paths"][path]["get"]["responses"]["200"]["content"].items()
        if content_type == FILE_TYPE:
            assert answer == BODY, "a file is the bytes that came"
            continue
        schema = {**content["schema"], "components": description["components"]}
        lines = answer.splitlines() if content_type == LINES_TYPE else []
        for one in map(json.loads, lines) if lines else [answer]:
            jsonschema_rs.validator_for(schema).validate(one)
            assert one.get("items") != [], f"{name} has something to show"


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
    config = {"url": receiver.url("/ok"), "headers": {"Authorization": "Bearer canary-1", "Accept": "seen"}}
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "HTTP_POST", "config": config}])
    shown = pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").text
    assert "canary-1" not in shown
    assert "seen" in shown
    pointsman.ended(pointsman.fire(callback))
    assert receiver.receipts[-1].headers["authorization"] == "Bearer canary-1"
    assert "canary-1" not in pointsman.log()
