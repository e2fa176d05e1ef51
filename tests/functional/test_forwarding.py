"""What of a call travels on to a receiver, and what becomes of a caller's credentials."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.peers.raw import RawReceiver, RawRequest
from tests.peers.receiver import Receipt, Receiver
from tests.running import Running, eventually

# A request of this size leaves in pieces, a smaller one in one write.
LARGE = b"x" * 200_000

# What no receiver is to take for Pointsman's, or for the framing of the request.
FORGED = [
    ("webhook-signature", "v1,forged"),
    ("Webhook_Signature", "v1,forged"),
    ("webhook-other", "forged"),
    ("pointsman-trigger-id", "forged"),
    ("Pointsman_Attempt", "forged"),
    ("proxy-authorization", "forged"),
    ("Proxy_Other", "forged"),
    ("content_length", "7"),
    ("transfer_encoding", "chunked"),
    ("http2-settings", "forged"),
    ("keep-alive", "timeout=7"),
    ("te", "trailers"),
    ("authorization", "Basic forged"),
    ("cookie", "forged=1"),
]
SMUGGLED = "a\r\nX-Forged: 1\r\nContent-Length: 0\r\n\r\nGET /forged HTTP/1.1\r\nHost: x\r\n\r\n\x00\u00e9"


def action(url: str, *forward: str, **config: Any) -> dict[str, Any]:
    """An HTTP_POST that goes there and sends on these headers."""
    given = {"url": url, "forwardHeaders": list(forward), **config}
    return {"type": "HTTP_POST", "config": given, "onFailure": "CONTINUE"}


def quiet(running: Running, *actions: dict[str, Any]) -> dict[str, Any]:
    """A callback with these actions whose primary one is switched off."""
    callback = running.callback("http://127.0.0.1:9/never", list(actions))
    running.primary(callback, enabled=False)
    return callback


def change(running: Running, callback: dict[str, Any], config: dict[str, Any]) -> None:
    path = f"/api/v1/actions/{callback['actions'][0]['id']}"
    answer = running.api.patch(path, json={"config": config})
    assert answer.is_success, answer.text


def replayed(running: Running, trigger_id: str, start: str = "start") -> str:
    """The end of a replay; its id."""
    answer = running.api.post(f"/api/v1/triggers/{trigger_id}/replay", json={"from": start})
    assert answer.status_code == 202, answer.text
    return str(running.ended(answer.json()["id"])["id"])


def recorded(running: Running, trigger_id: str) -> tuple[str, str]:
    """A recorded call's authorization: as its row has it, and as it is shown."""
    ((headers,),) = running.query("SELECT headers FROM triggers WHERE id = %s", trigger_id)
    return dict(headers)["authorization"], dict(running.trigger(trigger_id)["request"]["headers"])[
        "authorization"
    ]


def of_trigger(receiver: Receiver, trigger_id: str) -> list[Receipt]:
    return [receipt for receipt in receiver.receipts if receipt.trigger_id == trigger_id]


class TestOnTheWire:
    @pytest.mark.parametrize("tail", [b"", LARGE], ids=["small", "large"])
    def test_headers_keep_their_order_their_number_and_their_bytes(
        self, pointsman: Running, other_tenant: Running, tail: bytes
    ) -> None:
        """Fails when repeated headers become one line, or a byte another one."""
        with RawReceiver() as receiver:
            for tenant, name in ((pointsman, "ours"), (other_tenant, "theirs")):
                callback = quiet(tenant, action(receiver.url(f"/{name}"), "X-*"))
                headers = [
                    (b"x-a", b"2 " + name.encode()),
                    (b"X-B", "caf\u00e9".encode("latin-1")),
                    (b"x-A", b"1"),
                    (b"y-a", b"stays"),
                    (b"x-empty", b""),
                    (b"x-a", "\u00e9".encode()),
                ]
                tenant.ended(tenant.fire(callback, content=name.encode() + tail, headers=headers))
                (request,) = receiver.got(f"/{name}")
                assert request.values(b"x-a") == [b"2 " + name.encode(), b"1", "\u00e9".encode()]
                assert (request.values(b"x-b"), request.values(b"x-empty")) == ([b"caf\xe9"], [b""])
                assert request.values(b"y-a") == []
                assert request.body == name.encode() + tail

    def test_a_query_is_sent_as_it_came_behind_the_actions_own(
        self, pointsman: Running, other_tenant: Running
    ) -> None:
        with RawReceiver() as receiver:
            for tenant, name in ((pointsman, "ours"), (other_tenant, "theirs")):
                config = {"forwardQuery": True, "query": {"who": name}}
                callback = quiet(tenant, action(receiver.url("/p?env=prod"), **config))
                url = callback["triggerUrl"] + f"?a[]=2&a[]=1&%65nv=dev&b={name}%2F+&a[]=2&who=me&c"
                tenant.ended(tenant.fire({**callback, "triggerUrl": url}))
            assert [request.target for request in receiver.requests] == [
                b"/p?env=prod&who=%s&a[]=2&a[]=1&b=%s%%2F+&a[]=2&c" % (name, name)
                for name in (b"ours", b"theirs")
            ]

    def test_no_caller_passes_for_pointsman_or_frames_a_request(
        self, pointsman: Running, other_tenant: Running
    ) -> None:
        with RawReceiver() as receiver:
            for tenant, name in ((pointsman, "ours"), (other_tenant, "theirs")):
                callback = quiet(tenant, action(receiver.url(f"/{name}"), "*", "*-*", "*_*"))
                trigger_id = tenant.fire(callback, content=name.encode(), headers=[*FORGED, ("x-real", name)])
                assert tenant.ended(trigger_id)["status"] == "SUCCESS"
                (request,) = receiver.got(f"/{name}")
                assert (request.body, request.values(b"x-real")) == (name.encode(), [name.encode()])
                assert request.values(b"pointsman-trigger-id") == [trigger_id.encode()]
                assert b"forged" not in b"".join(value for _, value in request.headers)
                spelt = [header.replace(b"_", b"-") for header, _ in request.headers]
                for reserved in (b"content-length", b"webhook-signature", b"pointsman-attempt"):
                    assert spelt.count(reserved) == 1, reserved
                assert not {b"transfer-encoding", b"keep-alive", b"te", b"authorization", b"cookie"} & set(
                    spelt
                )

    @pytest.mark.parametrize(
        "config",
        [
            {"url": "/ok/{{ body.v }}"},
            {"url": "/ok?v={{ body.v }}#{{ body.v }}"},
            {"url": "/ok", "query": {"v": "{{ body.v }}"}},
            {"url": "/ok", "form": {"v": "{{ body.v }}"}},
            {"url": "/ok", "body": "{{ body.v }}"},
            {"url": "/ok", "body": ["{{ body.v }}"]},
        ],
        ids=str,
    )
    def test_what_a_caller_sends_stays_in_its_place(self, pointsman: Running, config: dict[str, Any]) -> None:
        """Fails when a value begins a header or a second request."""
        with RawReceiver() as receiver:
            given = {**config, "url": receiver.url(config["url"])}
            callback = quiet(pointsman, {"type": "HTTP_POST", "config": given})
            trigger = pointsman.ended(pointsman.fire(callback, json={"v": SMUGGLED}))
            assert trigger["status"] == "SUCCESS", trigger["executions"]
            request: RawRequest
            (request,) = receiver.requests
            assert request.target.startswith(b"/ok")
            assert request.values(b"x-forged") == []
            assert request.values(b"content-length") == [b"%d" % len(request.body)]

    @pytest.mark.parametrize(
        "config",
        [{"query": {"v": "{{ body.v }}"}}, {"form": {"v": "{{ body.v }}"}}, {"body": "{{ body.v }}"}],
        ids=str,
    )
    def test_a_broken_character_fails_its_execution_with_a_clear_message(
        self, pointsman: Running, receiver: Receiver, config: dict[str, Any]
    ) -> None:
        """Fails when whoever owns the action is told to look at its config, and the log fills."""
        before = pointsman.log().count("prepare_broken")
        callback = quiet(pointsman, action(receiver.url("/ok"), **config))
        trigger = pointsman.ended(pointsman.fire(callback, content=b'{"v": "\\ud800"}'))
        (execution,) = trigger["executions"]
        assert (execution["status"], execution["attempt"]) == ("FAILED", 1)
        assert execution["error"].startswith("template_failed: "), execution["error"]
        assert "surrogate" in execution["error"]
        assert receiver.receipts == []
        assert pointsman.log().count("prepare_broken") == before


class TestACallersCredential:
    """It is sealed where an action names it, and goes where an action that is there then says."""

    def test_it_is_sealed_and_goes_to_the_actions_that_name_it_alone(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        for tenant, name in ((pointsman, "ours"), (other_tenant, "theirs")):
            callback = quiet(
                tenant,
                action(receiver.url(f"/{name}/named"), "Authorization", "x-*"),
                action(receiver.url(f"/{name}/pattern"), "*", "auth*"),
                action(receiver.url(f"/{name}/template"), headers={"x-got": "{{ headers.authorization }}"}),
            )
            headers = {"authorization": f"Bearer canary-{name}", "x-a": "1"}
            trigger_id = tenant.fire(callback, headers=headers)
            tenant.ended(trigger_id)
            got = {one.path.rsplit("/")[-1]: one.headers for one in of_trigger(receiver, trigger_id)}
            assert got["named"]["authorization"] == f"Bearer canary-{name}"
            assert "authorization" not in got["pattern"]
            assert got["template"]["x-got"] == "***"
            stored, shown = recorded(tenant, trigger_id)
            assert (stored.split(":")[0], shown) == ("sealed", "***")

    def test_it_stays_here_once_its_action_names_it_no_more(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        given = action(receiver.url("/flaky/1"), "authorization")
        callback = quiet(pointsman, {**given, "retry": {"maxAttempts": 2, "schedule": [1.0]}})
        trigger_id = pointsman.fire(callback, headers={"authorization": "Bearer canary"})
        eventually(lambda: receiver.receipts, 10, "the first attempt")
        change(pointsman, callback, {"url": receiver.url("/flaky/1")})
        assert pointsman.ended(trigger_id)["status"] == "SUCCESS"
        first, second = receiver.receipts
        assert first.headers["authorization"] == "Bearer canary"
        assert "authorization" not in second.headers

    def test_it_stays_here_once_its_action_is_deleted(self, pointsman: Running, receiver: Receiver) -> None:
        given = action(receiver.url("/status/503"), "authorization")
        callback = quiet(pointsman, {**given, "retry": {"maxAttempts": 2, "schedule": [1.0]}})
        trigger_id = pointsman.fire(callback, headers={"authorization": "Bearer canary"})
        eventually(lambda: receiver.receipts, 10, "the first attempt")
        assert pointsman.api.delete(f"/api/v1/actions/{callback['actions'][0]['id']}").is_success
        assert pointsman.ended(trigger_id)["status"] == "FAILED"
        assert len(receiver.receipts) == 1
        stored, shown = recorded(pointsman, trigger_id)
        assert (stored.split(":")[0], shown) == ("sealed", "***"), "until the trigger itself is removed"

    def test_a_replay_sends_it_where_the_actions_say_then(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        for tenant, name in ((pointsman, "ours"), (other_tenant, "theirs")):
            callback = quiet(tenant, action(receiver.url(f"/{name}/old"), "authorization", "x-*"))
            headers = {"authorization": f"Bearer canary-{name}", "x-a": name}
            old = tenant.fire(callback, headers=headers)
            assert tenant.ended(old)["status"] == "SUCCESS"

            again = replayed(tenant, old)
            change(tenant, callback, {"url": receiver.url(f"/{name}/other"), "forwardHeaders": ["x-*"]})
            without = replayed(tenant, old)
            change(
                tenant, callback, {"url": receiver.url(f"/{name}/new"), "forwardHeaders": ["authorization"]}
            )
            to_the_new = replayed(tenant, again)

            sent = {
                of: [one.headers.get("authorization") for one in of_trigger(receiver, of)]
                for of in (old, again, without, to_the_new)
            }
            assert sent == {
                old: [f"Bearer canary-{name}"],
                again: [f"Bearer canary-{name}"],
                without: [None],
                to_the_new: [f"Bearer canary-{name}"],
            }
            assert of_trigger(receiver, to_the_new)[0].path == f"/{name}/new"
            for one in (again, without, to_the_new):
                stored, shown = recorded(tenant, one)
                assert (stored.split(":")[0], shown) == ("sealed", "***")

    def test_one_that_came_before_an_action_named_it_is_gone(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback = quiet(pointsman, action(receiver.url("/ok"), "x-*"))
        trigger_id = pointsman.fire(callback, headers={"authorization": "Bearer canary", "x-a": "1"})
        pointsman.ended(trigger_id)
        assert recorded(pointsman, trigger_id) == ("***", "***")
        change(pointsman, callback, {"url": receiver.url("/ok"), "forwardHeaders": ["authorization", "x-*"]})
        again = replayed(pointsman, trigger_id)
        (receipt,) = of_trigger(receiver, again)
        assert ("authorization" in receipt.headers, receipt.headers["x-a"]) == (False, "1")

    def test_a_preview_of_a_past_call_shows_that_it_would_be_sent_and_not_which(
        self, pointsman: Running, other_tenant: Running, receiver: Receiver
    ) -> None:
        callback = quiet(pointsman, action(receiver.url("/ok"), "authorization", "cookie", "x-*"))
        headers = [("authorization", "Bearer canary"), ("cookie", "a=canary"), ("x-a", "1"), ("x-a", "2")]
        trigger_id = pointsman.fire(callback, headers=headers)
        pointsman.ended(trigger_id)
        given = {"actionId": callback["actions"][0]["id"], "triggerId": trigger_id}
        answer = pointsman.api.post("/api/v1/actions/preview", json=given)
        assert answer.is_success, answer.text
        assert "canary" not in answer.text
        shown = answer.json()["request"]["headers"]
        assert {name: shown[name] for name in ("authorization", "cookie", "x-a")} == {
            "authorization": "***",
            "cookie": "***",
            "x-a": "1, 2",
        }
        assert other_tenant.api.post("/api/v1/actions/preview", json=given).status_code == 404

    def test_one_that_no_key_opens_says_so(self, pointsman: Running, receiver: Receiver) -> None:
        """Fails when the action's owner is told to set again what somebody else has sent."""
        callback = quiet(pointsman, action(receiver.url("/ok"), "authorization"))
        trigger_id = pointsman.fire(callback, headers={"authorization": "Bearer canary"})
        pointsman.ended(trigger_id)
        lost = json.dumps([["authorization", "sealed:00000000:gAAAAABmlost"]])
        pointsman.query("UPDATE triggers SET headers = %s WHERE id = %s RETURNING 1", lost, trigger_id)
        (execution,) = pointsman.trigger(replayed(pointsman, trigger_id))["executions"]
        assert execution["error"].startswith("bad_config: The caller's authorization cannot be decrypted")
        assert len(receiver.receipts) == 1
