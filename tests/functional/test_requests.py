"""What leaves is what the user wrote and the caller sent, byte for byte."""

from __future__ import annotations

import base64
import gzip
import json
import random

import pytest

from tests.peers.raw import RawReceiver
from tests.running import Running

# A request of this size leaves in pieces, a smaller one in one write.
LARGE = b"x" * 200_000

TARGETS = [
    "/?sp=%2Ftriggers%2Frun&sig=a%2Fb%2Bc%3D",
    "/%41/%7Ex",
    "/a/../b/./c//d",
    "/a;b=1,2?x=1+2&y=%20&z=",
    "/a?",
    "/?",
    "/%2e%2E/%00%ff",
    "/a[b]|{c}^`\"<>\\d?e='f'\\",
    "/p?q=/../?",
]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_target_of_a_request_is_what_the_user_wrote(
    pointsman: Running, other_tenant: Running, target: str, large: bool
) -> None:
    """Fails when a URL is sent in another spelling: signatures in it no longer hold."""
    tail = LARGE if large else b""
    with RawReceiver() as receiver:
        ours = pointsman.callback(receiver.url(target + "#part?of=it"))
        action = {"type": "HTTP_POST", "config": {"url": receiver.url(target + "&theirs")}}
        theirs = other_tenant.callback(receiver.url("/first"), [action])
        first = pointsman.ended(pointsman.fire(ours, content=b"ours" + tail))
        second = other_tenant.ended(other_tenant.fire(theirs, content=b"theirs" + tail))

        assert (first["status"], second["status"]) == ("SUCCESS", "SUCCESS")
        assert [(request.line, request.body) for request in receiver.requests] == [
            (b"POST %s HTTP/1.1" % target.encode(), b"ours" + tail),
            (b"POST /first HTTP/1.1", b"theirs" + tail),
            (b"POST %s&theirs HTTP/1.1" % target.encode(), b"theirs" + tail),
        ]
        hosts = {value for request in receiver.requests for value in request.values(b"host")}
        assert hosts == {b"127.0.0.1:%d" % receiver.port}


def test_a_url_without_a_path_asks_for_the_root(pointsman: Running) -> None:
    with RawReceiver() as receiver:
        for rest in ("", "?a=%2F", "#part"):
            pointsman.ended(pointsman.fire(pointsman.callback(receiver.url(rest))))
        assert [request.target for request in receiver.requests] == [b"/", b"/?a=%2F", b"/"]


@pytest.mark.parametrize(
    "rest", ["/caf\u00e9", "/?q=\u00e9", "/a b", "/?a\tb", "/\u00a0", "/\u0085", ":8a/", "\\@b/", "%41/"]
)
def test_what_cannot_be_sent_as_it_is_is_refused_when_it_is_saved(pointsman: Running, rest: str) -> None:
    url = "http://127.0.0.1" + rest
    callback = pointsman.callback("http://127.0.0.1:1/")
    answers = [
        pointsman.api.post("/api/v1/callbacks", json={"name": "test", "callbackUrl": url}),
        pointsman.api.post(
            f"/api/v1/callbacks/{callback['id']}/actions", json={"type": "HTTP_POST", "config": {"url": url}}
        ),
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert all(answer.json()["hint"] for answer in answers)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_compressed_body_travels_with_its_coding_and_its_language(
    pointsman: Running, other_tenant: Running, large: bool
) -> None:
    """Fails when a receiver is left to guess what the bytes are."""
    incompressible = random.Random(7).randbytes(len(LARGE)) if large else b""
    ours, theirs = (gzip.compress(json.dumps(name).encode() + incompressible) for name in ("ours", "theirs"))
    sent = {"content-type": "application/json", "content-language": "de, en"}
    with RawReceiver() as receiver:
        plain = pointsman.callback(receiver.url("/ours"))
        twice = other_tenant.callback(receiver.url("/theirs"))
        first = pointsman.fire(plain, content=ours, headers={**sent, "content-encoding": "gzip"})
        headers = [*sent.items(), ("content-encoding", "br"), ("Content-Encoding", "gzip")]
        second = other_tenant.fire(twice, content=theirs, headers=headers)
        shown = [pointsman.ended(first), other_tenant.ended(second)]

        assert [trigger["status"] for trigger in shown] == ["SUCCESS", "SUCCESS"]
        for target, body, coding in (("/ours", ours, b"gzip"), ("/theirs", theirs, b"br, gzip")):
            (request,) = receiver.got(target)
            assert request.body == body
            assert request.values(b"content-type") == [b"application/json"]
            assert request.values(b"content-encoding") == [coding]
            assert request.values(b"content-language") == [b"de, en"]


def test_an_actions_own_headers_and_body_win_over_the_callers(pointsman: Running) -> None:
    with RawReceiver() as receiver:
        own = {"Content-Encoding": "identity", "content-language": "fr", "Content-Type": "text/own"}
        callback = pointsman.callback(
            receiver.url("/passed"),
            [
                {"type": "HTTP_POST", "config": {"url": receiver.url("/headers"), "headers": own}},
                {"type": "HTTP_POST", "config": {"url": receiver.url("/body"), "body": {"own": True}}},
            ],
        )
        callers = {"content-type": "text/x", "content-encoding": "gzip", "content-language": "de"}
        pointsman.ended(pointsman.fire(callback, content=gzip.compress(b"x"), headers=callers))

        def sent(target: str) -> list[list[bytes]]:
            (request,) = receiver.got(target)
            return [request.values(name.encode()) for name in callers]

        assert sent("/passed") == [[b"text/x"], [b"gzip"], [b"de"]]
        assert sent("/headers") == [[b"text/own"], [b"identity"], [b"fr"]]
        assert sent("/body") == [[b"application/json"], [], []]


def test_an_encoded_body_is_not_shown_as_text(pointsman: Running) -> None:
    """Fails when bytes that only look like text or JSON are shown as such."""
    with RawReceiver() as receiver:
        callback = pointsman.callback(receiver.url())
        for body, coding, encoding, value in (
            (gzip.compress(b"{}"), "gzip", "base64", None),
            (b"[1]", "x-own", "base64", "WzFd"),
            (b"[1]", "aes128gcm, identity", "base64", "WzFd"),
            (b"[1]", "Identity", "text", "[1]"),
            (b"[1]", "", "text", "[1]"),
        ):
            trigger_id = pointsman.fire(callback, content=body, headers={"content-encoding": coding})
            request = pointsman.ended(trigger_id)["request"]
            assert ["content-encoding", coding] in request["headers"]
            assert request["bodyEncoding"] == encoding, coding
            assert request["body"] == (value or base64.b64encode(body).decode())


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_content_type_of_any_letters_is_passed_on_as_it_came(
    pointsman: Running, other_tenant: Running, encoding: str, large: bool
) -> None:
    """Fails when it is accepted and then cannot be delivered, on any attempt."""
    content_type = 'application/json; name="caf\u00e9.json"'.encode(encoding)
    tail = LARGE if large else b""
    with RawReceiver() as receiver:
        ours = pointsman.callback(receiver.url("/ours"))
        theirs = other_tenant.callback(receiver.url("/theirs"))
        for tenant, callback in ((pointsman, ours), (other_tenant, theirs)):
            headers = [
                (b"content-type", content_type),
                (b"content-encoding", "b\u00e4".encode(encoding)),
            ]
            content = callback["id"].encode() + tail
            trigger = tenant.ended(tenant.fire(callback, content=content, headers=headers))
            assert trigger["status"] == "SUCCESS", trigger["executions"]
        for target, callback in (("/ours", ours), ("/theirs", theirs)):
            (request,) = receiver.got(target)
            assert request.body == callback["id"].encode() + tail
            assert request.values(b"content-type") == [content_type]
            assert request.values(b"content-encoding") == ["b\u00e4".encode(encoding)]
