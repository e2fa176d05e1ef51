"""Templates and conditions, from a call to what a receiver gets."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running, eventually

ORDER = {"type": "order.paid", "id": "o 1/ä", "amount": 10, "customer": {"name": 'Eve "E"', "vip": True}}
RAW = b'{"type":"order.paid","id":"o 1/\xc3\xa4","amount":10.00,"big":25000000000000000000,"customer":{"name":"Eve \\"E\\"","vip":true}}'


def action(running: Running, callback: dict[str, Any], **given: Any) -> httpx.Response:
    return running.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=given)


def added(running: Running, callback: dict[str, Any], **given: Any) -> dict[str, Any]:
    answer = action(running, callback, **given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def quiet(running: Running) -> dict[str, Any]:
    """A callback whose primary action is switched off."""
    callback = running.callback("http://127.0.0.1:9/never")
    running.primary(callback, enabled=False)
    return callback


def test_every_text_of_a_request_is_rendered(
    pointsman: Running, other_tenant: Running, receiver: Receiver
) -> None:
    callback, theirs = quiet(pointsman), quiet(other_tenant)
    config = {
        "url": receiver.url("/orders/{{ body.id }}?type={{ body.type }}"),
        "method": "PUT",
        "query": {"vip": "{{ body.customer.vip }}", "fixed": "a b"},
        "headers": {"x-name": "{{ callback.name }}", "x-event": "{{ headers['x-github-event'] | upcase }}"},
        "body": {
            "text": "{{ body.customer.name }} paid {{ body.amount }}",
            "amount": "{{ body.amount | json }}",
            "big": "{{ body.big | json }}",
            "list": ["{{ query.q }}", 1.5, None],
            "customer": "{{ body.customer | json }}",
        },
    }
    added(pointsman, callback, type="HTTP_POST", config=config)
    added(
        other_tenant,
        theirs,
        type="HTTP_POST",
        config={**config, "headers": {"x-name": "theirs {{ body.id | size }}"}},
    )
    headers = {"content-type": "application/json", "x-github-event": "push"}
    mine = pointsman.fire(callback, content=RAW, headers=headers, params={"q": "1"})
    other = other_tenant.fire(theirs, content=RAW.replace(b"Eve", b"Bob"), headers=headers)
    assert pointsman.ended(mine)["status"] == other_tenant.ended(other)["status"] == "SUCCESS"

    (got,) = [r for r in receiver.receipts if r.trigger_id == mine]
    parts = urlsplit(got.path)
    assert (got.method, parts.path) == ("PUT", "/orders/o%201%2F%C3%A4")
    assert parse_qsl(parts.query) == [("type", "order.paid"), ("vip", "true"), ("fixed", "a b")]
    assert (got.headers["x-name"], got.headers["x-event"]) == (callback["name"], "PUSH")
    assert json.loads(got.body, parse_float=str, parse_int=str) == {
        "text": 'Eve "E" paid 10.00',
        "amount": "10.00",
        "big": "25000000000000000000",
        "list": ["1", "1.5", None],
        "customer": {"name": 'Eve "E"', "vip": True},
    }
    (their_own,) = [r for r in receiver.receipts if r.trigger_id == other]
    assert their_own.headers["x-name"] == "theirs 5"
    assert b"Bob" in their_own.body


@pytest.mark.parametrize(
    ("config", "sent", "content_type"),
    [
        (
            {"form": {"a": "{{ body.id }}", "b": "&"}},
            b"a=o%201%2F%C3%A4&b=%26",
            "application/x-www-form-urlencoded",
        ),
        ({"body": "{{ body.customer.name }}"}, b'Eve "E"', "text/plain; charset=utf-8"),
        (
            {"body": '{"t": "{{ body.customer.name }}"}', "headers": {"content-type": "application/json"}},
            b'{"t": "Eve \\"E\\""}',
            "application/json",
        ),
        ({"method": "DELETE"}, b"", None),
    ],
)
def test_a_body_has_the_form_that_its_action_says(
    pointsman: Running, receiver: Receiver, config: dict[str, Any], sent: bytes, content_type: str | None
) -> None:
    callback = quiet(pointsman)
    added(pointsman, callback, type="HTTP_POST", config={"url": receiver.url("/ok"), **config})
    trigger = pointsman.ended(pointsman.fire(callback, json=ORDER))
    assert trigger["status"] == "SUCCESS", trigger
    (got,) = receiver.receipts
    assert (got.body, got.headers.get("content-type")) == (sent, content_type)


def test_an_action_reads_what_earlier_ones_were_answered(pointsman: Running, receiver: Receiver) -> None:
    """Also after a wait for a retry, when another claim has to read it back."""
    callback = quiet(pointsman)
    first = added(
        pointsman, callback, type="HTTP_POST", name="create", config={"url": receiver.url("/json?n=1")}
    )
    added(
        pointsman,
        callback,
        type="HTTP_POST",
        name="then",
        config={
            "url": receiver.url("/flaky/1"),
            "body": {
                "of": "{{ actions.create.response.json.path }}",
                "code": "{{ actions.create.response.statusCode | json }}",
            },
        },
        condition="actions.create.response.statusCode == 200",
        retry={"maxAttempts": 3, "schedule": [0.2]},
    )
    stored = added(
        pointsman,
        callback,
        type="STORE",
        config={"value": {"then": "{{ actions.then.response.statusCode | json }}"}},
    )
    trigger = pointsman.ended(pointsman.fire(callback, json=ORDER))
    assert [(e["status"], e["attempt"]) for e in trigger["executions"]] == [
        ("SUCCESS", 1),
        ("SUCCESS", 2),
        ("SUCCESS", 1),
    ], trigger
    last = receiver.got("/flaky/1")[-1]
    assert json.loads(last.body) == {"of": "/json?n=1", "code": 200}
    refused = pointsman.api.delete(f"/api/v1/actions/{first['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "read_by_another_action")
    renamed = pointsman.api.patch(f"/api/v1/actions/{first['id']}", json={"name": "made"})
    assert renamed.status_code == 409
    moved = pointsman.api.patch(f"/api/v1/actions/{first['id']}", json={"order": 99})
    assert (moved.status_code, moved.json()["code"]) == (422, "read_by_another_action")
    together = pointsman.api.patch(f"/api/v1/actions/{stored['id']}", json={"name": "then"})
    assert (together.status_code, together.json()["code"]) == (409, "action_name_taken")


def test_an_action_whose_condition_does_not_hold_is_skipped(pointsman: Running, receiver: Receiver) -> None:
    callback = quiet(pointsman)
    added(
        pointsman,
        callback,
        type="HTTP_POST",
        config={"url": receiver.url("/vip")},
        condition="body.customer.vip",
    )
    added(
        pointsman,
        callback,
        type="HTTP_POST",
        config={"url": receiver.url("/large")},
        condition="body.amount > 100",
    )
    added(pointsman, callback, type="HTTP_POST", config={"url": receiver.url("/last")})
    trigger = pointsman.ended(pointsman.fire(callback, json=ORDER))
    assert trigger["status"] == "SUCCESS"
    vip, large, last = trigger["executions"]
    assert (vip["status"], vip["attempt"], last["status"], last["attempt"]) == ("SUCCESS", 1, "SUCCESS", 1)
    assert (large["status"], large["attempt"], large["response"]) == ("SUCCESS", 0, {"skipped": True})
    assert [r.path for r in receiver.receipts] == ["/vip", "/last"]
    again = pointsman.ended(pointsman.fire(callback, json={**ORDER, "amount": 101, "customer": None}))
    assert [e["attempt"] for e in again["executions"]] == [0, 1, 1]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        (
            {"config": {"url": "http://x/", "body": {"a": ["{{ bdy.x }}"]}}},
            "config.body.a.0",
            "did you mean body",
        ),
        ({"config": {"url": "http://x/{{ body.x"}}, "config", "URL"),
        ({"config": {"url": "http://{{ body.host }}/"}}, "config.url", "cannot be templates"),
        (
            {"config": {"url": "http://x/", "headers": {"a": "{{ body.x | unheard }}"}}},
            "config.headers.a",
            "no filter unheard",
        ),
        ({"config": {"url": "http://x/"}, "condition": "body.a =="}, "condition", "line 1"),
        (
            {"config": {"url": "http://x/"}, "condition": "actions.later.response.body"},
            "condition",
            "there is no actions.later",
        ),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_saved(
    pointsman: Running, given: dict[str, Any], field: str, says: str
) -> None:
    callback = quiet(pointsman)
    answer = action(pointsman, callback, type="HTTP_POST", **given)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["detail"]
    assert says in answer.json()["detail"]
    assert len(pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").json()["items"]) == 1


@pytest.mark.parametrize("value", ["a\r\nX-Forged: 1", "a\nb", "a\x00b", "ä"])
def test_a_header_cannot_be_forged_by_what_a_caller_sends(
    pointsman: Running, receiver: Receiver, value: str
) -> None:
    callback = quiet(pointsman)
    added(
        pointsman,
        callback,
        type="HTTP_POST",
        config={"url": receiver.url("/ok"), "headers": {"x-v": "{{ body.v }}"}},
    )
    trigger = pointsman.ended(pointsman.fire(callback, json={"v": value}))
    (execution,) = trigger["executions"]
    assert (execution["status"], execution["error"].partition(":")[0]) == ("FAILED", "bad_config")
    assert receiver.receipts == []


SECOND = "a\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n\x00ä"


def test_a_value_is_never_a_second_request(
    pointsman: Running, other_tenant: Running, receiver: Receiver
) -> None:
    """Fails when what a caller sends leaves its place on the wire."""
    configs: list[dict[str, Any]] = [
        {
            "url": receiver.url("/p/{{ body.v }}?q={{ body.v }}"),
            "query": {"r": "{{ body.v }}"},
            "body": {"a": "{{ body.v }}"},
        },
        {"url": receiver.url("/p/{{ body.v | strip }}"), "form": {"a": "{{ body.v | json }}"}},
    ]
    for running, of in ((pointsman, "mine"), (other_tenant, "theirs")):
        callback = quiet(running)
        for config in configs:
            added(running, callback, type="HTTP_POST", config=config)
        trigger = running.ended(running.fire(callback, json={"v": f"{of}{SECOND}"}))
        assert [e["status"] for e in trigger["executions"]] == ["SUCCESS", "SUCCESS"], trigger
        got = [r for r in receiver.receipts if r.trigger_id == trigger["id"]]
        assert [r.path.partition("%0D%0A")[0] for r in got] == [f"/p/{of}a"] * 2
        assert json.loads(got[0].body) == {"a": f"{of}{SECOND}"}
        assert dict(parse_qsl(got[1].body.decode())) == {"a": json.dumps(f"{of}{SECOND}", ensure_ascii=False)}
    assert len(receiver.receipts) == 4


def test_a_template_that_fails_fails_its_execution_alone(pointsman: Running, receiver: Receiver) -> None:
    callback = quiet(pointsman)
    added(
        pointsman,
        callback,
        type="HTTP_POST",
        onFailure="CONTINUE",
        config={"url": receiver.url("/a"), "body": "{{ body.amount | divided_by: 0 }}"},
    )
    added(pointsman, callback, type="HTTP_POST", config={"url": receiver.url("/b")})
    trigger = pointsman.ended(pointsman.fire(callback, json=ORDER))
    first, second = trigger["executions"]
    assert first["error"].startswith("template_failed: config.body: line 1, column ")
    assert (first["status"], second["status"]) == ("FAILED", "SUCCESS")


def test_the_callers_headers_and_query_are_forwarded_where_they_are_named(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = quiet(pointsman)
    config = {
        "url": receiver.url("/ok?own=1"),
        "forwardHeaders": ["X-GitHub-*", "stripe-signature", "Authorization", "*-own"],
        "forwardQuery": True,
        "headers": {"x-github-own": "mine"},
    }
    saved = added(pointsman, callback, type="HTTP_POST", config=config)
    assert saved["config"]["forwardHeaders"] == ["X-GitHub-*", "stripe-signature", "Authorization", "*-own"]
    eventually(lambda: _forwarded(pointsman, callback, receiver), 10, "a call whose credential is sealed")
    got = receiver.receipts[-1]
    assert (got.headers["x-github-event"], got.headers["stripe-signature"], got.headers["x-github-own"]) == (
        "push",
        "t=1",
        "mine",
    )
    assert got.headers["authorization"] == "Bearer canary-of-the-caller"
    assert not {"x-other", "cookie", "proxy-authorization"} & got.headers.keys()
    assert urlsplit(got.path).query == "own=1&a=b%20c&d=%25"
    shown = json.dumps(pointsman.trigger(got.trigger_id))
    rows = json.dumps(pointsman.query("SELECT headers FROM triggers WHERE id = %s", got.trigger_id))
    assert "canary" not in shown + rows
    for name in ("proxy-authorization", "host", "webhook-signature", "connection"):
        refused = action(pointsman, callback, type="HTTP_POST", config={**config, "forwardHeaders": [name]})
        assert "never forwarded" in refused.json()["detail"]


def _forwarded(running: Running, callback: dict[str, Any], receiver: Receiver) -> bool:
    """Call, and say whether the snapshot of the callback knew what is forwarded."""
    headers = {
        "x-github-event": "push",
        "stripe-signature": "t=1",
        "x-github-own": "theirs",
        "x-other": "1",
        "authorization": "Bearer canary-of-the-caller",
        "cookie": "a=canary",
        "proxy-authorization": "canary",
    }
    trigger_id = httpx.post(
        callback["triggerUrl"] + "?a=b%20c&d=%25", headers=headers, content=b"x", trust_env=False
    ).json()["triggerId"]
    running.ended(trigger_id)
    return "authorization" in receiver.receipts[-1].headers


def test_only_named_statuses_are_success(pointsman: Running, receiver: Receiver) -> None:
    callback = quiet(pointsman)
    retry = {"maxAttempts": 1}
    for url, statuses in (("/status/202", [200, 202]), ("/status/204", [200, 202])):
        added(
            pointsman,
            callback,
            type="HTTP_POST",
            onFailure="CONTINUE",
            retry=retry,
            config={"url": receiver.url(url), "successStatuses": statuses},
        )
    trigger = pointsman.ended(pointsman.fire(callback, json=ORDER))
    first, second = trigger["executions"]
    assert (first["status"], second["status"]) == ("SUCCESS", "FAILED")
    assert "successStatuses" in second["error"]


def test_a_condition_can_be_tried_on_what_has_come(pointsman: Running, other_tenant: Running) -> None:
    callback, theirs = quiet(pointsman), quiet(other_tenant)
    added(pointsman, callback, type="STORE", name="kept", config={})
    for n in range(25):
        pointsman.fire(callback, json={"n": n})
    large = pointsman.fire(callback, json={"n": 99, "padding": "x" * 100_000})
    huge = pointsman.fire(callback, json={"n": 100, "padding": "x" * 300_000})
    text = pointsman.fire(callback, content=b"plain")
    other_tenant.fire(theirs, json={"n": 99})
    pointsman.ended(text)

    def tried(condition: str, running: Running = pointsman) -> httpx.Response:
        given = {"callbackId": callback["id"], "condition": condition}
        return running.api.post("/api/v1/conditions/try", json=given)

    items = tried("body.n > 20").json()["items"]
    assert len(items) == 20
    assert [(one["triggerId"], one["holds"]) for one in items[:3]] == [
        (text, False),
        (huge, None),
        (large, True),
    ]
    assert "too large" in items[1]["error"]
    assert [one["holds"] for one in items[3:]] == [True] * 4 + [False] * 13
    assert tried("body > 20").json()["items"][2]["error"].startswith("condition: line 1, column 6: ")
    answered = tried("actions.kept.response.statusCode == nil").json()["items"]
    assert [one["holds"] for one in answered[3:]] == [True] * 17
    assert tried("bdy.n").status_code == 422
    assert tried("body.n", other_tenant).status_code == 404


def test_a_preview_shows_what_would_leave_and_no_secret(
    pointsman: Running, other_tenant: Running, receiver: Receiver
) -> None:
    callback, theirs = quiet(pointsman), quiet(other_tenant)
    credential = pointsman.api.post(
        "/api/v1/credentials",
        json={
            "name": "shop",
            "provider": "GENERIC",
            "secret": "canary-credential",
            "meta": {"kind": "bearer", "origins": [receiver.url("").rstrip("/")]},
        },
    ).json()
    action = added(
        pointsman,
        callback,
        type="HTTP_POST",
        name="send",
        credentialId=credential["id"],
        condition="body.id",
        config={
            "url": receiver.url("/orders/{{ body.id }}?key=canary-key&type={{ body.type }}"),
            "headers": {"x-key": "canary-header", "x-type": "{{ body.type | upcase }}"},
            "body": {"id": "{{ body.id | json }}", "name": "{{ body.customer.name }}"},
        },
    )
    other = added(other_tenant, theirs, type="STORE", config={"value": "{{ body.id }}"})
    trigger_id = pointsman.fire(callback, json={**ORDER, "id": 7.5})
    pointsman.ended(trigger_id)

    def preview(running: Running = pointsman, **given: Any) -> httpx.Response:
        return running.api.post("/api/v1/actions/preview", json=given)

    shown = preview(actionId=action["id"], triggerId=trigger_id)
    assert shown.status_code == 200, shown.text
    assert "canary" not in shown.text
    request = shown.json()["request"]
    assert request["url"] == receiver.url("/orders/7.5?key=***&type=order.paid")
    assert (request["headers"]["x-key"], request["headers"]["authorization"]) == ("***", "***")
    assert request["headers"]["x-type"] in ("***", "ORDER.PAID")
    assert json.loads(request["body"]) == {"id": 7.5, "name": 'Eve "E"'}
    sample = {"body": {"id": 8, "type": "t"}, "headers": {"X-A": "b"}}
    made_up = {
        "callbackId": callback["id"],
        "type": "STORE",
        "config": {"value": ["{{ headers['x-a'] }}", "{{ body.id }}"]},
    }
    assert preview(**made_up, sample=sample).json()["request"]["body"] == '["b","8"]'
    assert preview(actionId=action["id"]).json()["skipped"] is True
    assert preview(**made_up, condition="body.id == 9", sample=sample).json()["skipped"] is True
    failing = {**made_up, "config": {"value": "{{ body.id | divided_by: 0 }}"}}
    assert (
        preview(**failing, sample=sample).status_code,
        preview(**failing, sample=sample).json()["code"],
    ) == (422, "bad_template")
    assert "did you mean body" in preview(**{**made_up, "config": {"value": "{{ bod.y }}"}}).json()["detail"]
    assert preview(actionId=other["id"]).status_code == 404
    assert preview(other_tenant, actionId=other["id"], triggerId=trigger_id).status_code == 404
    assert receiver.got("/never") == []
