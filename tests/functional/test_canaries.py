"""No secret stands anywhere but where it is used: not in a table, a log, an error, a message or an
answer.

Canaries are set wherever a secret may be set, everything that can be done is done, and then every
column of every table, everything that Redis was told, the whole log and every answer is searched.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import redis
from flask import Response, request
from psycopg2 import sql

from api.resources.probes import MOST_A_MINUTE
from deploy.local.state import DataFolder
from shared.crypto import SecretBox
from shared.keyring.texts import NAMED
from shared.models.sealed import SEALED
from tests.certificates import Authority
from tests.peers.oauth_server import SCOPE, Client, OAuthServer
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

COLUMNS = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('text', 'varchar', 'jsonb', 'json', 'bytea', '_text')
"""

# What its owner set and is shown again: no masks stand for these.
SHOWN = ("callback path", "redirected path", "redirected token", "harmless header")


@dataclass
class Canaries:
    """Secrets by where they were set. said: everything that was told to somebody."""

    by_place: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def new(self, place: str) -> str:
        found = self.by_place[place] = f"canary-{uuid.uuid4().hex}"
        return found

    def found_in(self, text: str) -> set[str]:
        return {place for place, canary in self.by_place.items() if canary in text}


@dataclass
class Done:
    """A Pointsman with which everything has been done, stopped neither by errors nor by secrets."""

    pointsman: Running
    canaries: Canaries
    receiver: Receiver
    redis_heard: list[str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    canaries = Canaries()
    environment = {"POINTSMAN_LOG_LEVEL": "debug", "POINTSMAN_LOG_FORMAT": "json"}
    folder = tmp_path_factory.mktemp("canaries")
    with (
        cores_allowed(),
        Running(folder, environment) as pointsman,
        Receiver() as receiver,
        OAuthServer() as oauth,
        Monitor(pointsman) as monitor,
    ):
        pointsman.api.event_hooks["response"] = [lambda answer: canaries.said.append(answer.read().decode())]
        use_credentials(pointsman, receiver, oauth, canaries)
        do_everything(pointsman, receiver, canaries)
        yield Done(pointsman, canaries, receiver, monitor.heard)


@contextmanager
def cores_allowed() -> Iterator[None]:
    """What is started here may leave dumps of its memory, unless it forbids that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


class Monitor:
    """Everything that Redis is told, in a thread of its own."""

    def __init__(self, pointsman: Running) -> None:
        self.heard: list[str] = []
        self._client = redis.Redis.from_url(pointsman.redis_url)

    def __enter__(self) -> Monitor:
        self._monitor = self._client.monitor().__enter__()  # type: ignore[no-untyped-call]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._monitor.connection.disconnect()
        self._client.close()
        self._thread.join(10)

    def _listen(self) -> None:
        try:
            for command in self._monitor.listen():
                self.heard.append(str(command["command"]))
        except (redis.RedisError, OSError, ValueError, AttributeError):
            pass  # it was told to end


def do_everything(pointsman: Running, receiver: Receiver, canaries: Canaries) -> None:
    new = canaries.new
    callback = pointsman.callback(
        receiver.url(f"/{new('callback path')}?key={new('callback query')}&{new('bare')}"),
        [
            {"type": "HTTP_POST", "config": config(receiver.url("/ok"), canaries)},
            *(
                {"type": "HTTP_POST", "config": config(url, canaries), "retry": {"maxAttempts": 1}}
                for url in failing(receiver, new("redirected path"))
            ),
            {"type": "HTTP_POST", "config": unrenderable(receiver.url("/ok"), canaries)},
            {"type": "HTTP_POST", "config": at_an_echo(receiver, {})},
            {"type": "HTTP_POST", "config": at_an_echo(receiver, {"Authorization": new("repeated header")})},
            {"type": "STORE", "config": {"key": "k"}},
        ],
        timeoutDuration=3_000,
    )
    canaries.by_place["signing secret"] = callback["signingSecret"]
    canaries.by_place["session"] = pointsman.api.headers["authorization"].removeprefix("Bearer ")
    headers = {"Authorization": new("primary header"), "Accept": new("harmless header")}
    pointsman.primary(callback, config={"target": "callback_url", "headers": headers}, onFailure="CONTINUE")
    for action in callback["actions"]:
        pointsman.api.patch(f"/api/v1/actions/{action['id']}", json={"onFailure": "CONTINUE"})
    rotate(pointsman, callback, canaries)
    fire(pointsman, callback, canaries)
    refuse(pointsman, callback, canaries)
    read_all(pointsman, callback)
    replayed = pointsman.api.get("/api/v1/triggers", params={"callbackId": callback["id"]}).json()["items"]
    pointsman.ended(
        pointsman.api.post(f"/api/v1/triggers/{replayed[0]['id']}/replay", json={"from": "start"}).json()[
            "id"
        ]
    )
    pointsman.api.post("/api/v1/replays", json={"callbackId": callback["id"], "status": "FAILED"})
    fail(pointsman, callback, canaries)
    try_out(pointsman, callback, canaries, replayed[0]["id"])
    preview(pointsman, receiver, callback, canaries, replayed[0]["id"])


def preview(
    pointsman: Running, receiver: Receiver, callback: dict[str, Any], canaries: Canaries, trigger: str
) -> None:
    """Each action, and one that nobody has saved, on a sample and a past call."""
    sample = {"headers": {"Authorization": canaries.new("previewed authorization")}}
    made_up = {"callbackId": callback["id"], "type": "HTTP_POST"}
    forwarding = config(receiver.url("/previewed"), canaries) | {"forwardHeaders": ["authorization"]}
    listed = pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").json()["items"]
    for given in (made_up | {"config": forwarding}, *({"actionId": action["id"]} for action in listed)):
        for about in ({"sample": sample}, {"triggerId": trigger}):
            answer = pointsman.api.post("/api/v1/actions/preview", json=given | about)
            assert answer.status_code == 200, answer.text
    for action in listed:
        if action["type"] == "HTTP_POST":
            changed = {"config": config(f"http://127.0.0.1:9/{action['id']}", canaries)}
            body = {"actionId": action["id"], "triggerId": trigger, **changed}
            answer = pointsman.api.post("/api/v1/actions/preview", json=body)
            assert answer.status_code in (200, 422), answer.text
    for failing in ({"url": receiver.url("/{{ bodi }}?a=" + canaries.new("refused preview"))}, forwarding):
        body = {"body": "{{ body | divided_by: 0 }}"}
        answer = pointsman.api.post("/api/v1/actions/preview", json=made_up | {"config": failing | body})
        assert answer.status_code == 422
    assert receiver.got("/previewed") == []


def try_out(pointsman: Running, callback: dict[str, Any], canaries: Canaries, trigger: str) -> None:
    """Each action by its test button, with a call that bears credentials, and with a past one."""
    listed = pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").json()["items"]
    call = {"sample": {"headers": {"Authorization": canaries.new("probed authorization")}}}
    made = [
        (action["id"], given)
        for action in listed
        if action["type"] != "STORE"
        for given in (call, {"triggerId": trigger})
    ]
    for action, given in made[:MOST_A_MINUTE]:
        answer = pointsman.api.post(f"/api/v1/actions/{action}/test", json=given, timeout=40)
        assert answer.status_code == 200, answer.text
        assert pointsman.api.get(f"/api/v1/probes/{answer.json()['id']}").json() == answer.json()


def fail(pointsman: Running, callback: dict[str, Any], canaries: Canaries) -> None:
    """A fault that nobody foresaw, while secrets are in what is being written."""
    new = canaries.new
    given = config("http://127.0.0.1:9/failed", canaries) | {"body": {"secret": new("body of a 500")}}
    action = {"type": "HTTP_POST", "name": "impossible", "config": given}
    connection = psycopg2.connect(pointsman.database_url)
    with closing(connection), connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE actions ADD CONSTRAINT impossible CHECK (name <> 'impossible') NOT VALID")
        connection.commit()
        answer = pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=action)
        cursor.execute("ALTER TABLE actions DROP CONSTRAINT impossible")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


def unrenderable(url: str, canaries: Canaries) -> dict[str, Any]:
    """A config whose header cannot be rendered, beside the secret in it."""
    header = canaries.new("unrenderable header") + " {{ 1 | divided_by: 0 }}"
    return {**config(f"{url}/unrenderable", canaries), "headers": {"X-Own": header}}


def at_an_echo(receiver: Receiver, headers: dict[str, str]) -> dict[str, Any]:
    """A config whose receiver repeats the credentials that it is sent."""
    return {"url": receiver.url("/echo"), "headers": headers, "forwardHeaders": ["authorization", "cookie"]}


def config(url: str, canaries: Canaries) -> dict[str, Any]:
    """A config with a canary in each place that is a secret, that sends on what a caller shows."""
    new = canaries.new
    before, _, path = url.partition("//")
    host, _, path = path.partition("/")
    tail = f"/{path}?key={new(f'query {url}')}&sig={new(f'second value {url}')}#{new(f'fragment {url}')}"
    return {
        "url": f"{before}//{host}{tail}",
        "query": {"more": new(f"parameter {url}")},
        "headers": {"X-Own": new(f"header {url}")},
        "forwardHeaders": ["authorization", "cookie"],
    }


def failing(receiver: Receiver, path: str) -> list[str]:
    """URLs of receivers that fail. A redirect leads to where it came from."""
    return [
        receiver.url("/status/500"),
        receiver.url(f"/status/302/{path}"),
        receiver.url("/status/410"),
        receiver.url("/close"),
        f"https://127.0.0.1:{receiver.port}/no-tls",
        "http://10.1.2.3/blocked",
        "http://127.0.0.1:9/refused",
        "http://no-such-host.invalid/",
    ]


def rotate(pointsman: Running, callback: dict[str, Any], canaries: Canaries) -> None:
    """Other secrets of both schemes, and another token. A key makes the answer a kept one."""
    path, key = f"/api/v1/callbacks/{callback['id']}", {"idempotency-key": "rotated-once"}
    body = {"signatures": ["v1", "v1a"]}
    rotated, _repeated = (
        pointsman.api.post(f"{path}/rotate-secret", json=body, headers=key).json() for _ in range(2)
    )
    canaries.by_place["rotated secret"] = rotated["signingSecret"]
    box = SecretBox(DataFolder(pointsman.folder / "data").secret_keys())
    held = [box.decrypt(one) for one in sealed_secrets(pointsman, callback["id"])]
    (canaries.by_place["private key"],) = [one for one in held if one.startswith("whsk_")]
    callback["triggerUrl"] = pointsman.api.post(f"{path}/rotate-token").json()["triggerUrl"]


def sealed_secrets(pointsman: Running, callback_id: str) -> list[str]:
    """A callback's signing secrets as they stand in its row."""
    found = pointsman.query(
        "SELECT s->>'secret' FROM callbacks c, jsonb_array_elements(c.signing_secrets) s WHERE c.id = %s",
        callback_id,
    )
    return [secret for (secret,) in found]


def fire(pointsman: Running, callback: dict[str, Any], canaries: Canaries) -> None:
    """Calls that bear credentials of their own, one of them waiting for its outcome."""
    new = canaries.new
    headers = {
        "Authorization": new("inbound authorization"),
        "cookie": new("inbound cookie"),
        "Proxy-Authorization": new("inbound proxy-authorization"),
        "X-Plain": "recorded",
    }
    for more in ({}, {"prefer": "wait=10", "idempotency-key": "k-1"}):
        answer = httpx.post(callback["triggerUrl"], headers=headers | more, content=b"x", trust_env=False)
        canaries.said.append(answer.text)
        pointsman.ended(answer.json()["triggerId"])


def use_credentials(pointsman: Running, receiver: Receiver, oauth: OAuthServer, canaries: Canaries) -> None:
    """Credentials of each kind, at receivers that take them and at some that fail, and what is
    refused of them.
    """
    made = [
        (credential(pointsman, canaries, kind, [receiver.url("")], **meta), receiver.url(path))
        for path in ("/ok", "/status/401", "/close", "/echo")
        for kind, meta in (
            ("bearer", {}),
            ("basic", {"username": "me"}),
            ("header", {"header": "X-Key"}),
            ("query", {"parameter": "key"}),
        )
    ]
    made += with_tokens(pointsman, receiver, oauth, canaries)
    made.append(with_certificate(pointsman, receiver, canaries))
    keep_for_later(pointsman, canaries)
    once = {"maxAttempts": 1}
    actions = [
        {
            "type": "HTTP_POST",
            "config": {"url": url},
            "retry": once,
            "credentialId": used,
            "onFailure": "CONTINUE",
        }
        for used, url in made
    ]
    callback = pointsman.callback(receiver.url("/ok"), actions, timeoutDuration=2_000)
    for _ in range(2):
        pointsman.ended(pointsman.fire(callback, content=b"x"), 30)
    canaries.by_place |= {f"access token {number}": one for number, one in enumerate(oauth.tokens)}
    canaries.by_place |= {
        f"pair of {place}": base64.b64encode(f"{name}:{canary}".encode()).decode()
        for name, kind in (("me", "basic"), ("known", "oauth2"))
        for place, canary in canaries.by_place.items()
        if place.startswith(f"credential {kind}")
    }
    for used, url in made:
        echo = receiver.url("/echo") if url.startswith(receiver.url("")) else url
        show_credential(pointsman, used, echo)
        change_credential(pointsman, used, canaries)
    action_id = callback["actions"][0]["id"]
    elsewhere = {"config": {"url": f"http://127.0.0.1:9/?a={canaries.new('refused action')}"}}
    assert pointsman.api.patch(f"/api/v1/actions/{action_id}", json=elsewhere).status_code == 422
    pointsman.query(
        "UPDATE actions SET config = %s WHERE id = %s RETURNING 1",
        json.dumps({"url": "http://127.0.0.1:9/"}),
        action_id,
    )
    pointsman.ended(pointsman.fire(callback, content=b"x"), 30)
    read_all(pointsman, callback)


def show_credential(pointsman: Running, credential_id: str, url: str) -> None:
    """By its test button, to a receiver that repeats it. Each seems to be a minute old then."""
    given = {"url": url, "method": "POST"}
    answer = pointsman.api.post(f"/api/v1/credentials/{credential_id}/test", json=given, timeout=40)
    assert (answer.status_code, answer.json()["state"]) == (200, "DONE"), answer.text
    pointsman.query("UPDATE probes SET created_at = created_at - interval '1 minute' RETURNING 1")


def credential(
    pointsman: Running,
    canaries: Canaries,
    kind: str,
    origins: list[str],
    secret: str | None = None,
    **meta: Any,
) -> str:
    """The id of a new credential whose secret is a canary."""
    given = {"kind": kind, "origins": origins, **meta}
    number = sum(place.startswith("credential ") for place in canaries.by_place)
    new = {"name": kind, "provider": "GENERIC", "meta": given}
    new["secret"] = secret or canaries.new(f"credential {kind} {number}")
    answer = pointsman.api.post("/api/v1/credentials", json=new)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def with_tokens(
    pointsman: Running, receiver: Receiver, oauth: OAuthServer, canaries: Canaries
) -> list[tuple[str, str]]:
    """Credentials at a token server that takes them, at some that do not, and the secret's echo."""
    known = {
        "clientId": "known",
        "scope": SCOPE,
        "tokenUrl": oauth.url(f"/token?p={canaries.new('token url')}"),
    }
    origins = [oauth.url("")]
    secret = canaries.new("credential oauth2")
    oauth.clients["known"] = Client("known", secret)
    oauth.behave = lambda: repeated(oauth)
    return [
        (credential(pointsman, canaries, "oauth2", origins, secret=secret, **known), oauth.url()),
        *(
            (credential(pointsman, canaries, "oauth2", origins, **{**known, **wrong}), oauth.url())
            for wrong in (
                {},
                {"authentication": "body"},
                {"tokenUrl": receiver.url(f"/status/302/{canaries.new('redirected token')}")},
                {"tokenUrl": "http://10.1.2.3/blocked"},
                {"tokenUrl": receiver.url("/close")},
                {
                    "tokenUrl": oauth.url(f"/token?p={canaries.new('repeated token url')}"),
                    "audience": "repeat",
                },
            )
        ),
    ]


def repeated(oauth: OAuthServer) -> Response | None:
    """What was asked, said back as an error, where that was asked for."""
    asked = oauth.asked[-1]
    if asked.get("audience") != "repeat":
        return None
    said = {"error": "of mine", "error_description": f"{asked['header']} {request.url} {asked}"}
    return Response(json.dumps(said), 400, content_type="application/json")


def keep_for_later(pointsman: Running, canaries: Canaries) -> None:
    """Credentials that no action uses yet."""
    new = canaries.new
    for provider, secret, meta in (
        ("SENDGRID", new("kept key of SendGrid"), None),
        ("TWILIO", new("kept token of Twilio"), {"accountSid": "AC1"}),
        ("SLACK", f"https://hooks.slack.com/services/T/B/{new('kept webhook of Slack')}", None),
        ("DISCORD", f"https://discord.com/api/webhooks/1/{new('kept webhook of Discord')}", None),
    ):
        given = {"name": provider, "provider": provider, "secret": secret, "meta": meta}
        answer = pointsman.api.post("/api/v1/credentials", json=given)
        assert answer.status_code == 201, answer.text
        path = f"/api/v1/credentials/{answer.json()['id']}"
        assert pointsman.api.patch(path, json={"name": "kept"}).is_success
        broken = {"secret": f"{secret}-{new(f'refused {provider}')}\n"}
        assert pointsman.api.patch(path, json=broken).status_code == 422


def with_certificate(pointsman: Running, receiver: Receiver, canaries: Canaries) -> tuple[str, str]:
    """A credential with a private key, at a server that speaks no TLS."""
    signed = Authority("canaries").sign("canary")
    canaries.by_place["private key"] = signed.key.splitlines()[2]
    origin = f"https://127.0.0.1:{receiver.port}"
    used = credential(
        pointsman,
        canaries,
        "clientCertificate",
        [origin],
        secret=signed.key,
        certificate=signed.certificate,
    )
    return used, f"{origin}/ok"


def change_credential(pointsman: Running, credential_id: str, canaries: Canaries) -> None:
    """What is refused of a change says nothing back."""
    path = f"/api/v1/credentials/{credential_id}"
    meta = pointsman.api.get(path).json()["meta"]
    for given in (
        {"secret": canaries.new(f"refused secret {credential_id}") + "\n"},
        {"secret": canaries.new(f"refused with {credential_id}"), "meta": {**meta, "surprise": 1}},
        {"meta": {**meta, "origins": ["https://elsewhere.example"]}},
        {"meta": {**meta, "kind": canaries.new(f"refused kind {credential_id}")}},
    ):
        assert pointsman.api.patch(path, json=given).status_code == 422
    assert pointsman.api.delete(path).status_code == 409


def refuse(pointsman: Running, callback: dict[str, Any], canaries: Canaries) -> None:
    """What is refused says nothing back."""
    new = canaries.new
    actions = f"/api/v1/callbacks/{callback['id']}/actions"
    for given in (
        {"url": "http://127.0.0.1/", "headers": {"Host": new("refused header")}},
        {"url": f"ftp://x/{new('refused url')}"},
        {"url": "http://127.0.0.1/", "headers": {"X-Own": new("refused value") + "\n"}},
        {"url": f"http://127.0.0.1/?a=***&b={new('refused query')}"},
    ):
        answer = pointsman.api.post(actions, json={"type": "HTTP_POST", "config": given})
        assert answer.status_code == 422
    key = {"idempotency-key": "made-once"}
    made = {"name": "x", "callbackUrl": f"http://127.0.0.1:9/?a={new('kept answer')}"}
    for _ in range(2):
        assert pointsman.api.post("/api/v1/callbacks", json=made, headers=key).is_success
    moved = {"callbackUrl": f"http://127.0.0.2:9/?a={new('refused move')}"}
    assert pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json=moved).status_code == 422


def read_all(pointsman: Running, callback: dict[str, Any]) -> None:
    callback_id = callback["id"]
    for path in (
        *(
            "callbacks",
            "triggers",
            "executions",
            "stored-items",
            "replays",
            "users/me",
            "openapi.json",
            "triggers.ndjson",
        ),
        "credentials",
        *(f"callbacks/{callback_id}", f"callbacks/{callback_id}/actions", f"callbacks/{callback_id}/logs"),
    ):
        assert pointsman.api.get(f"/api/v1/{path}").is_success
    for path in ("/readyz", "/metrics", "/healthz"):
        pointsman.api.get(path)


def test_what_is_secret_was_used(done: Done) -> None:
    """Without it the others would show nothing."""
    canaries, receiver = done.canaries.by_place, done.receiver
    received = [receipt.path + str(receipt.headers) for receipt in receiver.receipts]
    for place in ("callback path", "callback query", "bare", "primary header", "harmless header"):
        assert any(canaries[place] in one for one in received), place
    for place in ("inbound authorization", "inbound cookie"):
        assert sum(canaries[place] in one for one in received) >= 8, "sent on, and again in replays"
    assert not any(canaries["inbound proxy-authorization"] in one for one in received)
    for place in ("query", "parameter", "second value", "header"):
        for url in (receiver.url("/ok"), receiver.url("/status/500")):
            assert any(canaries[f"{place} {url}"] in one for one in received), place
    credentials = [place for place in canaries if place.startswith("credential ")]
    sent = [place for place in credentials if any(canaries[place] in one for one in received)]
    assert {place.split()[1] for place in sent} == {"bearer", "header", "query"}
    basic = base64.b64encode(f"me:{canaries['credential basic 1']}".encode()).decode()
    assert any(basic in one for one in received)
    assert any(place.startswith("access token") for place in canaries)
    repeating = [receipt for receipt in receiver.receipts if receipt.path.startswith("/echo")]
    assert len(repeating) >= 3 * 4
    assert any("(of mine: Basic ***" in text for text in done.canaries.said)
    assert any(canaries["credential bearer 0"] in str(receipt.headers) for receipt in repeating)


def test_a_recorded_call_shows_that_its_caller_had_credentials_and_not_which(done: Done) -> None:
    """The names stay, since whoever looks for why a call was refused wants to see them."""
    (trigger, *_) = done.pointsman.api.get("/api/v1/triggers").json()["items"]
    recorded = dict(done.pointsman.trigger(trigger["id"])["request"]["headers"])
    shown = {name: recorded[name] for name in ("authorization", "cookie", "proxy-authorization", "x-plain")}
    assert shown == {
        "authorization": "***",
        "cookie": "***",
        "proxy-authorization": "***",
        "x-plain": "recorded",
    }


def test_no_column_of_any_table_holds_a_secret(done: Done) -> None:
    connection = psycopg2.connect(done.pointsman.database_url)
    found, searched = {}, []
    with connection, connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        searched = cursor.fetchall()
        for table, column in searched:
            cursor.execute(
                sql.SQL("SELECT {column}::text, {column} FROM {table}").format(
                    column=sql.Identifier(column), table=sql.Identifier(table)
                )
            )
            texts = [
                bytes(row[1]).decode("latin-1") if column in ("body", "content") else str(row[0])
                for row in cursor
            ]
            if places := done.canaries.found_in("\n".join(texts)):
                found[table, column] = places
    connection.close()
    assert found == {}
    assert {("actions", "config"), ("triggers", "headers"), ("logs", "details")} <= set(searched)


def test_every_sealed_column_is_there_and_what_is_written_to_it_is_sealed(done: Done) -> None:
    written = {
        ("callbacks", "callback_url"),
        ("callbacks", "signing_secrets"),
        ("actions", "config"),
        ("kept_answers", "answer"),
        ("service_credentials", "meta"),
        ("service_credentials", "secret"),
        ("probes", "result"),
        ("triggers", "headers"),
    }
    assert written <= SEALED.keys()
    for table, column in SEALED:
        texts = [row[0] for row in done.pointsman.query(f'SELECT "{column}"::text FROM "{table}"')]
        if (table, column) in written:
            assert any("sealed:" in (text or "") for text in texts), (table, column)


def test_whatever_is_sealed_stands_in_a_column_that_a_rotation_knows(done: Done) -> None:
    """Fails when a new sealed column is forgotten: its secrets would be lost with the next key."""
    box = SecretBox(DataFolder(done.pointsman.folder / "data").secret_keys())
    holding = set()
    for table, column in done.pointsman.query(COLUMNS):
        rows = done.pointsman.query(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
        texts = (json.dumps(row[0], default=lambda raw: bytes(raw).decode("latin-1")) for row in rows)
        if any(box.open(found.group()) for text in texts for found in NAMED.finditer(text)):
            holding.add((table, column))
    assert holding - {("key_checks", "sealed")} <= SEALED.keys()
    assert len(holding) > 5


def test_nothing_is_told_to_redis(done: Done) -> None:
    eventually(lambda: any("LPUSH" in one for one in done.redis_heard), 5, "a hint")
    assert done.canaries.found_in("\n".join(done.redis_heard)) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel says elsewhere where its dumps are")
def test_a_crash_leaves_no_dump_of_the_memory(done: Done) -> None:
    """Fails when a core file, which holds every secret of a worker, is written beside it."""
    for name in ("api", "worker"):
        limits = Path(f"/proc/{done.pointsman.pid_of(name)}/limits").read_text()
        (line,) = [one for one in limits.splitlines() if one.startswith("Max core file size")]
        assert line.split()[4] == "0"
    before, killed = set(Path().glob("core*")), done.pointsman.pid_of("worker")
    os.kill(killed, signal.SIGSEGV)
    eventually(lambda: done.pointsman.pids().get("worker") not in (None, killed), 15, "another worker")
    assert set(Path().glob("core*")) == before


def test_nothing_is_in_the_log(done: Done) -> None:
    log = done.pointsman.log()
    assert '"attempt_ended"' in log
    assert '"request_broken"' in log
    assert "CheckViolation" in log
    assert done.canaries.found_in(log) == set()


def test_nothing_is_in_an_answer_but_what_is_shown_once(done: Done) -> None:
    """The signing secrets. Paths and harmless headers are shown to their owner."""
    once = {"signing secret", "rotated secret"}
    said = done.canaries.said
    found = [places for text in said if (places := done.canaries.found_in(text))]
    assert set().union(*found) - once - set(SHOWN) == set(), [text for text in said if "canary" in text][:3]
    for place in once:
        assert sum(place in places for places in found) == 1
    for code in (
        "internal_error",
        "template_failed",
        "connect_failed",
        "oauth_failed",
        "credential_origin",
        "http_401",
        "secret_needed_again",
    ):
        assert any(code in text for text in said), code


def test_no_file_of_the_installation_but_its_keys_holds_a_key(done: Done) -> None:
    data = done.pointsman.folder / "data"
    key = (data / "secret_keys").read_text()
    files = [path for path in Path(data).glob("*") if path.is_file() and path.name != "secret_keys"]
    assert files
    for path in files:
        assert key not in path.read_text(errors="replace")
        assert done.canaries.found_in(path.read_text(errors="replace")) == set()
    assert key not in done.pointsman.log()
