"""The test button: one request, sent by a worker as a delivery would be, and what came back."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.peers.oauth_server import SCOPE, Client, OAuthServer
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.tenants import Tenant

SECRET = "canary-of-a-probe"
SAMPLE = {"order": {"id": 42, "who": "Eve"}}


@pytest.fixture
def tenant(pointsman: Running) -> Iterator[Tenant]:
    """A new user for each test: probes are counted by user."""
    with Tenant(pointsman, f"probes-{time.monotonic_ns()}@example.com") as tenant:
        tenant.api.timeout = 60
        yield tenant


def action_of(tenant: Tenant, url: str, **callback: Any) -> str:
    """The primary action of a new callback."""
    made = tenant._running.callback(url, api=tenant.api, **callback)
    return str(tenant.api.get(f"/api/v1/callbacks/{made['id']}/actions").json()["items"][0]["id"])


def try_out(tenant: Tenant, action: str, **given: Any) -> httpx.Response:
    """given: a sample, or a triggerId."""
    body = given if not given or "triggerId" in given else {"sample": given}
    return tenant.api.post(f"/api/v1/actions/{action}/test", json=body)


def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    probe: dict[str, Any] = answer.json()
    assert (probe["state"], bool(probe["finishedAt"])) == ("DONE", True)
    return probe


def templated(tenant: Tenant, receiver: Receiver) -> str:
    action = action_of(tenant, receiver.url(f"/ok?key={SECRET}"))
    config = {
        "target": "callback_url",
        "headers": {"X-Who": "{{ body.order.who }}", "Authorization": f"Bearer {SECRET}"},
        "body": {"id": "{{ body.order.id }}", "kind": "{{ headers.x-kind }}"},
    }
    assert tenant.api.patch(f"/api/v1/actions/{action}", json={"config": config}).is_success
    return action


def test_an_action_is_sent_once_and_what_came_back_is_shown(tenant: Tenant, receiver: Receiver) -> None:
    action = templated(tenant, receiver)

    probe = done(try_out(tenant, action, body=SAMPLE, headers={"X-Kind": "test"}))

    (receipt,) = receiver.receipts
    assert receipt.webhook_id == probe["id"]
    assert (receipt.headers["x-who"], receipt.attempt, receipt.action_id) == ("Eve", 1, action)
    assert receipt.headers["authorization"] == f"Bearer {SECRET}"
    assert json.loads(receipt.body) == {"id": "42", "kind": "test"}
    result = probe["result"]
    assert (result["outcome"], result["code"], result["statusCode"]) == ("success", "ok", 200)
    assert result["dialled"] == f"127.0.0.1:{receiver.port}"
    assert result["address"] is None, "for an ADMIN alone"
    assert result["response"]["body"] == '{"ok": true}'
    assert result["response"]["headers"] == {"content-type": "text/plain"}
    assert result["request"]["url"] == receiver.url("/ok?key=***")
    assert result["request"]["headers"]["authorization"] == "***"
    assert result["request"]["bodyBytes"] == len(receipt.body)
    assert tenant.api.get(f"/api/v1/probes/{probe['id']}").json() == probe


def test_an_action_is_tried_with_a_past_trigger(tenant: Tenant, receiver: Receiver) -> None:
    """Its recorded call, without the credentials that it came with, and what earlier actions were
    answered.
    """
    running = tenant._running
    callback = tenant.callback(receiver.url("/ok"))
    primary = tenant.api.get(f"/api/v1/callbacks/{callback['id']}/actions").json()["items"][0]["id"]
    assert tenant.api.patch(f"/api/v1/actions/{primary}", json={"name": "first"}).is_success
    config = {
        "url": receiver.url("/second"),
        "body": {"who": "{{ body.order.who }}", "ok": "{{ actions.first.response.json.ok }}"},
        "forwardHeaders": ["authorization", "x-*"],
    }
    made = tenant.api.post(
        f"/api/v1/callbacks/{callback['id']}/actions", json={"type": "HTTP_POST", "config": config}
    ).json()
    trigger = running.fire(callback, json=SAMPLE, headers={"authorization": SECRET, "x-kind": "past"})
    eventually(lambda: receiver.got("/second"), 10, "the delivery")

    probe = done(try_out(tenant, made["id"], triggerId=trigger))

    sent, tried = receiver.got("/second")
    assert json.loads(tried.body) == json.loads(sent.body) == {"who": "Eve", "ok": "true"}
    assert (tried.trigger_id, tried.webhook_id) == (trigger, probe["id"])
    assert (sent.headers["authorization"], tried.headers.get("authorization")) == (SECRET, None)
    assert tried.headers["x-kind"] == "past"


def test_what_a_probe_is_told_is_bounded(tenant: Tenant, receiver: Receiver) -> None:
    result = done(try_out(tenant, action_of(tenant, receiver.url("/big"))))["result"]
    assert result["response"]["body"] == "x" * 4_096
    assert (result["response"]["truncated"], result["outcome"]) == (True, "success")


def test_a_receiver_that_repeats_a_secret_shows_none(tenant: Tenant, receiver: Receiver) -> None:
    probe = try_out(tenant, action_of(tenant, receiver.url(f"/json/x?key={SECRET}"))).text
    assert receiver.receipts[0].path.endswith(SECRET)
    assert SECRET not in probe


@pytest.mark.parametrize("path", ["/echo", "/echo/nul"])
def test_an_echo_of_what_was_sent_shows_none_of_it(tenant: Tenant, receiver: Receiver, path: str) -> None:
    """However JSON spells it, wherever it is cut, and whatever else makes it no text."""
    secrets = [f'{SECRET}-"said"\\', f"{SECRET}-{'x' * 3_000}", f"{SECRET}-basic"]
    pair = base64.b64encode(f"me:{secrets[2]}".encode()).decode()
    action = action_of(tenant, receiver.url(f"{path}?key={quote(secrets[0])}"))
    headers = {"X-Quoted": secrets[0], "X-Long": secrets[1], "Authorization": f"Basic {pair}"}
    config = {"target": "callback_url", "headers": {**headers, "Cookie": f"a={SECRET}-cookie; b=c"}}
    assert tenant.api.patch(f"/api/v1/actions/{action}", json={"config": config}).is_success
    answer = try_out(tenant, action)
    response = done(answer)["result"]["response"]
    assert receiver.receipts[0].headers["x-quoted"] == secrets[0]
    assert SECRET not in answer.text
    assert "x" * 50 not in answer.text
    assert pair not in answer.text
    if path == "/echo":
        assert json.loads(response["body"])["headers"]["x-quoted"] == "***"
    else:
        assert response["body"] is None


def test_a_410_switches_nothing_off(tenant: Tenant, receiver: Receiver) -> None:
    action = action_of(tenant, receiver.url("/status/410"))
    result = done(try_out(tenant, action))["result"]
    assert (result["outcome"], result["code"], result["statusCode"]) == ("failure", "http_410", 410)
    assert tenant.api.get(f"/api/v1/actions/{action}").json()["enabled"]


def test_a_condition_that_does_not_hold_sends_nothing(tenant: Tenant, receiver: Receiver) -> None:
    action = action_of(tenant, receiver.url("/ok"))
    assert tenant.api.patch(f"/api/v1/actions/{action}", json={"condition": "body.order.id == 43"}).is_success
    result = done(try_out(tenant, action, body=SAMPLE))["result"]
    assert (result["outcome"], result["dialled"], receiver.receipts) == ("skipped", None, [])


def test_a_store_action_cannot_be_tested(tenant: Tenant, receiver: Receiver) -> None:
    callback = tenant.callback(receiver.url("/ok"), [{"type": "STORE", "config": {}}])
    answer = try_out(tenant, callback["actions"][0]["id"])
    assert (answer.status_code, answer.json()["code"]) == (422, "not_testable")


def test_a_hanging_receiver_ends_with_the_callbacks_time_and_disturbs_nobody(
    pointsman: Running, tenant: Tenant, receiver: Receiver
) -> None:
    action = action_of(tenant, receiver.url("/hang"), timeoutDuration=1_500)
    quick = pointsman.callback(receiver.url("/quick"))
    with httpx.Client(base_url=pointsman.url, headers=tenant.api.headers, trust_env=False) as client:
        client.timeout = httpx.Timeout(0.3)
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/api/v1/actions/{action}/test", json={})
    eventually(lambda: receiver.got("/hang"), 5, "the probe")
    second = try_out(tenant, action)
    assert (second.status_code, second.json()["code"]) == (429, "too_many_probes")
    assert int(second.headers["retry-after"]) >= 1
    started = time.monotonic()
    pointsman.ended(pointsman.fire(quick))
    assert time.monotonic() - started < 1.5
    answer = eventually(
        lambda: (found := try_out(tenant, action)).status_code == 200 and found, 10, "a free place"
    )
    result = answer.json()["result"]
    assert (result["outcome"], result["code"]) == ("failure", "timeout")
    assert 1_500 <= result["durationMs"] < 4_000


def test_who_waits_is_told_at_once(tenant: Tenant, receiver: Receiver) -> None:
    """Each time. Fails when only the look of each second tells, or the sweep finds the probe."""
    action = action_of(tenant, receiver.url("/delay/50"))
    took = []
    for _ in range(3):
        started = time.monotonic()
        done(try_out(tenant, action))
        took.append(time.monotonic() - started)
    assert max(took) < 0.9


def test_ten_a_minute(tenant: Tenant, receiver: Receiver) -> None:
    action = action_of(tenant, receiver.url("/ok"))
    for _ in range(10):
        done(try_out(tenant, action))
    refused = try_out(tenant, action)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_probes")
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert len(receiver.receipts) == 10


def test_another_tenant_finds_neither_the_action_nor_the_probe(
    pointsman: Running, tenant: Tenant, receiver: Receiver
) -> None:
    action = action_of(tenant, receiver.url("/ok"))
    probe = done(try_out(tenant, action))
    trigger = pointsman.fire(pointsman.callback(receiver.url("/ok")), json={})
    assert pointsman.api.post(f"/api/v1/actions/{action}/test", json={}).status_code == 404
    assert pointsman.api.get(f"/api/v1/probes/{probe['id']}").status_code == 404
    assert try_out(tenant, action, triggerId=trigger).status_code == 404


def test_a_refused_address_is_named_to_an_admin_alone(pointsman: Running, tenant: Tenant) -> None:
    """Though this is a developer's machine, whose deliveries say it."""
    refused = "http://[::ffff:10.1.2.3]:9/"
    answer = try_out(tenant, action_of(tenant, refused))
    result = done(answer)["result"]
    assert (result["code"], result["error"]) == ("blocked_address", "refused: private network")
    assert (result["address"], result["request"], result["statusCode"]) == (None, None, None)
    assert "10.1.2.3" not in answer.text.replace(result["dialled"], "")
    callback = pointsman.callback(refused)
    action = pointsman.primary(callback, enabled=True)["id"]
    shown = pointsman.api.post(f"/api/v1/actions/{action}/test", json={}, timeout=40).json()["result"]
    assert (shown["error"], shown["address"]) == ("refused: private network", "10.1.2.3")


def test_an_admin_is_shown_the_address(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok").replace("127.0.0.1", "localhost"))
    action = pointsman.primary(callback, enabled=True)["id"]
    for _ in range(2):  # the second goes over the same connection
        result = pointsman.api.post(f"/api/v1/actions/{action}/test", json={}, timeout=40).json()["result"]
        assert (result["dialled"], result["address"]) == (f"localhost:{receiver.port}", "127.0.0.1")


def credential_of(tenant: Tenant, receiver: Receiver, **meta: Any) -> str:
    given = {"kind": "bearer", "origins": [receiver.url("")], **meta}
    body = {"name": "x", "provider": "GENERIC", "secret": SECRET, "meta": given}
    answer = tenant.api.post("/api/v1/credentials", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("meta", "name", "value"),
    [
        ({}, "authorization", f"Bearer {SECRET}"),
        ({"kind": "header", "header": "X-Key"}, "x-key", SECRET),
        ({"kind": "header", "header": "Accept"}, "accept", SECRET),
    ],
)
def test_a_credential_is_shown_to_its_origin_and_not_to_who_tests_it(
    tenant: Tenant, receiver: Receiver, meta: dict[str, Any], name: str, value: str
) -> None:
    """Even in a header that is harmless elsewhere."""
    credential = credential_of(tenant, receiver, **meta)
    answer = tenant.api.post(f"/api/v1/credentials/{credential}/test")
    result = done(answer)["result"]
    (receipt,) = receiver.receipts
    assert (receipt.method, receipt.path, receipt.headers[name]) == ("GET", "/", value)
    assert (result["outcome"], result["dialled"]) == ("success", f"127.0.0.1:{receiver.port}")
    assert "***" in result["request"]["headers"][name]
    assert SECRET not in answer.text
    eventually(
        lambda: tenant.api.get(f"/api/v1/credentials/{credential}").json()["lastUsedAt"], 10, "its use"
    )


def test_a_credential_in_a_query_is_masked_though_the_receiver_repeats_it(
    tenant: Tenant, receiver: Receiver
) -> None:
    credential = credential_of(tenant, receiver, kind="query", parameter="key")
    given = {"url": receiver.url("/json/me?a=1")}
    answer = tenant.api.post(f"/api/v1/credentials/{credential}/test", json=given)
    assert done(answer)["result"]["request"]["url"] == receiver.url("/json/me?a=***&key=***")
    assert receiver.receipts[0].path == f"/json/me?a=1&key={SECRET}"
    assert SECRET not in answer.text


def test_a_token_is_fetched_first_and_shown_to_nobody(tenant: Tenant, receiver: Receiver) -> None:
    """Fails when the token server's answer is taken for that of the request."""
    with OAuthServer(clients={"app": Client("app", SECRET)}) as server:
        meta = {"kind": "oauth2", "tokenUrl": server.url("/token"), "clientId": "app", "scope": SCOPE}
        credential = credential_of(tenant, receiver, **meta)
        answer = tenant.api.post(f"/api/v1/credentials/{credential}/test")
        result = done(answer)["result"]
        token = receiver.receipts[0].headers["authorization"].removeprefix("Bearer ")
        assert (result["outcome"], result["dialled"]) == ("success", f"127.0.0.1:{receiver.port}")
        assert result["response"]["body"] == '{"ok": true}'
        assert token not in answer.text
        assert SECRET not in answer.text


def test_without_a_token_nothing_is_sent(tenant: Tenant, receiver: Receiver) -> None:
    with OAuthServer(clients={"app": Client("app", "another secret")}) as server:
        meta = {"kind": "oauth2", "tokenUrl": server.url("/token"), "clientId": "app", "scope": SCOPE}
        answer = tenant.api.post(f"/api/v1/credentials/{credential_of(tenant, receiver, **meta)}/test")
    result = done(answer)["result"]
    assert (result["outcome"], result["code"], result["response"]) == ("failure", "oauth_failed", None)
    assert receiver.receipts == []
    assert SECRET not in answer.text


def test_a_probe_whose_worker_is_killed_ends_and_is_sent_once(tmp_path: Path, receiver: Receiver) -> None:
    """Fails when whoever waits waits for ever, or another worker sends it again."""
    with Running(tmp_path) as running:
        callback = running.callback(receiver.url("/hang"))
        action = running.primary(callback, enabled=True)["id"]
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(running.api.post, f"/api/v1/actions/{action}/test", json={}, timeout=40)
            eventually(lambda: receiver.receipts, 10, "the probe")
            running.signal("worker", "SIGKILL")
            answer = asked.result(45)
        probe = eventually(
            lambda: (
                (found := running.api.get(f"/api/v1/probes/{answer.json()['id']}").json())["result"] and found
            ),
            30,
            "its end",
        )
    assert (probe["state"], probe["result"]["code"]) == ("DONE", "worker_lost")
    assert len(receiver.receipts) == 1


def test_without_a_worker_nothing_is_recorded(tmp_path: Path, receiver: Receiver) -> None:
    with Running(tmp_path) as running:
        running.signal("worker", "SIGSTOP")
        callback = running.callback(receiver.url("/ok"))
        action = running.primary(callback, enabled=True)["id"]

        def refused() -> httpx.Response | None:
            answer = running.api.post(f"/api/v1/actions/{action}/test", json={}, timeout=1)
            return answer if answer.status_code == 503 else None

        eventually(
            lambda: running.query("SELECT 1 FROM workers WHERE heartbeat_at < now() - interval '5 s'"),
            15,
            "a stale heartbeat",
        )
        answer = eventually(refused, 5, "a refusal")
        assert answer.json()["code"] == "no_worker"
        assert running.query("SELECT count(*) FROM probes") == [(0,)]
        assert receiver.receipts == []
        running.signal("worker", "SIGCONT")
