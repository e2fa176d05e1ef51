"""What leaves is what the user wrote and the caller sent, byte for byte."""

from __future__ import annotations

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
