"""HEAD, OPTIONS and preflights look at a trigger URL: they trigger nothing and count nowhere."""

from __future__ import annotations

import http.client
from collections import Counter
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running, eventually

TRIGGERS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
STATUS = "GET, HEAD, OPTIONS"
PREFLIGHT = {
    "origin": "https://shop.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}


def raw(method: str, url: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and every byte behind the head: the connection is read to its end."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=10)
    connection.request(method, target.path, headers={"connection": "close"} | (headers or {}))
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    body = answer.fp.read() if answer.fp else b""  # past http.client, which would not look for a body
    connection.close()
    return answer.status, named, body


def refused(pointsman: Running) -> Counter[str]:
    shown = httpx.get(f"{pointsman.url}/metrics", trust_env=False).text
    lines = [
        line.split() for line in shown.splitlines() if line.startswith("pointsman_triggers_refused_total{")
    ]
    return Counter({name: int(float(value)) for name, value in lines})


def recorded(pointsman: Running) -> int:
    ((count,),) = pointsman.query("SELECT count(*) FROM triggers")
    return int(count)


def test_head_says_what_a_call_would_meet_and_triggers_nothing(
    pointsman: Running, receiver: Receiver
) -> None:
    active = pointsman.callback(receiver.url("/ok"), customPath="looked-at")
    inactive = pointsman.callback(receiver.url("/ok"), activeStatus=False)
    before, refusals = recorded(pointsman), refused(pointsman)

    for url, status in (
        (active["triggerUrl"], 200),
        (active["customUrl"], 200),
        (inactive["triggerUrl"], 403),
        (f"{pointsman.url}/t/unknown", 404),
        (f"{pointsman.url}/c/a%00b", 404),
    ):
        answered, headers, body = raw("HEAD", url)
        assert (answered, body) == (status, b""), url
        assert headers["x-request-id"]
        assert headers["cache-control"] == "no-store"

    pointsman.ended(pointsman.fire(active, content=b"the only one"))
    assert recorded(pointsman) == before + 1
    assert [one.body for one in receiver.receipts] == [b"the only one"]
    assert refused(pointsman) == refusals


@pytest.mark.parametrize("headers", [{}, PREFLIGHT], ids=["plain", "preflight"])
@pytest.mark.parametrize("path", ["/t/unknown", "/c/unknown", "/c/known"])
def test_options_names_the_methods_and_looks_nothing_up(
    pointsman: Running, receiver: Receiver, path: str, headers: dict[str, str]
) -> None:
    """No CORS headers: whether an origin may call is for the callback's owner to say."""
    if path == "/c/known":
        path += f"-{len(headers)}"
        pointsman.callback(receiver.url("/ok"), customPath=path.removeprefix("/c/"))
    before, refusals = recorded(pointsman), refused(pointsman)

    status, named, body = raw("OPTIONS", pointsman.url + path, headers)

    assert (status, named["allow"], body) == (204, TRIGGERS, b"")
    assert not [name for name in named if name.startswith("access-control-")]
    assert named["x-request-id"]
    assert recorded(pointsman) == before
    assert refused(pointsman) == refusals


def test_without_postgres_options_is_answered_all_the_same(pointsman: Running, receiver: Receiver) -> None:
    pointsman.signal("postgres", "SIGSTOP")
    try:
        assert raw("OPTIONS", f"{pointsman.url}/t/never-looked-up")[0] == 204
    finally:
        pointsman.signal("postgres", "SIGCONT")


def test_a_look_with_a_body_that_is_too_large_is_no_refused_trigger(pointsman: Running) -> None:
    refusals = refused(pointsman)
    for method in ("HEAD", "OPTIONS"):
        too_large = {"content-length": str(2 * 1024 * 1024)}
        assert raw(method, f"{pointsman.url}/t/unknown", too_large)[0] == 413
    assert refused(pointsman) == refusals


def test_a_status_url_is_looked_at_likewise(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    status_url = f"{callback['triggerUrl']}/{pointsman.fire(callback)}"
    before = recorded(pointsman)

    seen = raw("HEAD", status_url)
    assert (seen[0], seen[2]) == (200, b"")
    assert raw("HEAD", status_url + "0")[0] == 404
    for headers in ({}, PREFLIGHT):
        status, named, body = raw("OPTIONS", status_url, headers)
        assert (status, named["allow"], body) == (204, STATUS, b"")
        assert not [name for name in named if name.startswith("access-control-")]
    assert recorded(pointsman) == before


def test_any_other_method_is_405_with_what_is_allowed(pointsman: Running) -> None:
    status, named, _ = raw("PURGE", f"{pointsman.url}/t/unknown")
    assert (status, set(named["allow"].split(", "))) == (405, set(TRIGGERS.split(", ")))


def test_a_callback_that_is_switched_on_is_seen_by_head(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"), activeStatus=False)
    assert raw("HEAD", callback["triggerUrl"])[0] == 403
    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json={"activeStatus": True})
    eventually(lambda: raw("HEAD", callback["triggerUrl"])[0] == 200, 3, "200")


def test_a_method_in_lower_case_means_the_same(pointsman: Running, receiver: Receiver) -> None:
    """Fails when `head` is recorded as a trigger, or `patch` is recorded as it was spelled."""
    callback = pointsman.callback(receiver.url("/ok"))
    before = recorded(pointsman)
    assert raw("head", callback["triggerUrl"])[0] == 200
    assert raw("options", callback["triggerUrl"])[0] == 204
    assert recorded(pointsman) == before
    status, _, body = raw("patch", callback["triggerUrl"])
    assert (status, pointsman.ended(orjson.loads(body)["triggerId"])["method"]) == (202, "PATCH")
