"""Receivers that misbehave: every one is cut in time, in bounded memory, with the right code."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.action_types.http_message import check_url
from tests.peers import hostile_http as peers
from tests.peers.hostile_http import OK, Behaviour, HostilePeer, run, until
from worker.egress.addresses import AddressGuard
from worker.egress.connection import MAX_HEAD_BYTES
from worker.egress.errors import EgressError
from worker.egress.forgiving import BEHIND
from worker.egress.http import WHOLE_BODY_BYTES, Egress
from worker.egress.messages import HttpRequest, HttpResponse

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
MiB = 1024 * 1024
DEADLINE_MS = 250

# A case that must end by itself gets this deadline, and ends within SOON_SECONDS.
LONG_MS = 10_000
SOON_SECONDS = 3.0

# Uvloop rounds its timers to ms.
CLOCK_SLACK_SECONDS = 0.01
CAP = 1000
MAX_GROWTH_BYTES = 20 * MiB

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UPLOAD = b"x" * (8 * MiB)

both_loops = pytest.mark.parametrize("loop", sorted(peers.LOOPS))

# Leaves in pieces, a smaller body in one write.
LARGE = b"x" * (WHOLE_BODY_BYTES + 1)
both_ways = pytest.mark.parametrize(
    ("loop", "body"),
    [*((loop, b"hello") for loop in sorted(peers.LOOPS)), ("uvloop", LARGE)],
    ids=[*sorted(peers.LOOPS), "large"],
)


@asynccontextmanager
async def started(**settings: Any) -> AsyncIterator[Egress]:
    egress = Egress(guard=AddressGuard((LOOPBACK,)), dns_threads=4, connection_limit=20, **settings)
    await egress.open()
    try:
        yield egress
    finally:
        await egress.close()


def post(url: str, **changes: Any) -> HttpRequest:
    values = {
        "method": "POST",
        "url": url,
        "headers": {"X-Test": "1"},
        "body": b"hello",
        "timeout_ms": LONG_MS,
        "max_response_bytes": CAP,
        "tenant": "tenant",
    }
    return HttpRequest(**{**values, **changes})


async def failure(egress: Egress, request: HttpRequest) -> EgressError:
    with pytest.raises(EgressError) as caught:
        await egress.request(request)
    return caught.value


def connections(egress: Egress) -> int:
    """How many sockets the client holds, idle ones included."""
    return 0 if egress._connector is None else len(egress._connector.open)


class Growth:
    """How much memory the process took at most while a block ran."""

    def __init__(self) -> None:
        self.bytes = 0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        before = _resident_bytes()
        watcher = asyncio.create_task(self._watch(before))
        try:
            yield
        finally:
            self.bytes = max(self.bytes, _resident_bytes() - before)
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self, before: int) -> None:
        while True:
            self.bytes = max(self.bytes, _resident_bytes() - before)
            await asyncio.sleep(0.005)


def _resident_bytes() -> int:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except FileNotFoundError:  # not Linux: the deadline and the codes are still checked
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Failing(NamedTuple):
    """A behaviour that ends in an error. at_deadline: nothing but the deadline can end it."""

    name: str
    behaviour: Callable[[], Behaviour]
    code: str
    phase: str | None = "receive"
    at_deadline: bool = False
    body: bytes = b""
    scheme: str = "http"


FAILING = [
    Failing("drips its head", lambda: peers.drips(HEAD, b"a"), "timeout", at_deadline=True),
    Failing(
        "drips its body",
        lambda: peers.drips(HEAD + b"Content-Length: 999\r\n\r\n", b"a"),
        "timeout",
        at_deadline=True,
    ),
    Failing(
        "drips its body in chunks", lambda: peers.drips(CHUNKED, b"1\r\na\r\n"), "timeout", at_deadline=True
    ),
    Failing("drips 100 Continue", lambda: peers.drips(b"", CONTINUE), "timeout", at_deadline=True),
    Failing("accepts and hangs", peers.hangs, "timeout", at_deadline=True),
    Failing("hangs in TLS", peers.hangs, "timeout", "connect", at_deadline=True, scheme="https"),
    Failing("never reads", peers.hangs, "timeout", "send", at_deadline=True, body=UPLOAD),
    Failing("floods 100 Continue", lambda: peers.floods(b"", CONTINUE * 400), "bad_response"),
    Failing("floods a header", lambda: peers.floods(HEAD + b"X: ", b"x" * 65536), "bad_response"),
    Failing(
        "sends a header of 1 MB",
        lambda: peers.answers(HEAD + b"X: " + b"x" * MiB + b"\r\n\r\n"),
        "bad_response",
    ),
    Failing("sends thousands of headers", lambda: peers.floods(HEAD, b"X: y\r\n" * 100), "bad_response"),
    Failing("floods a chunk extension", lambda: peers.floods(CHUNKED + b"1;", b"x" * 65536), "bad_response"),
    Failing(
        "floods trailers",
        lambda: peers.floods(CHUNKED + b"0\r\n", b"X: " + b"x" * 999 + b"\r\n"),
        "bad_response",
    ),
    Failing("sends a bad status line", lambda: peers.answers(b"HTTP/9 what\r\n\r\n"), "bad_response"),
    Failing("sends no HTTP", lambda: peers.answers(b"\x00\xffgarbage\r\n\r\n"), "bad_response"),
    Failing("sends NUL in a header", lambda: peers.answers(HEAD + b"X: a\x00b\r\n\r\n"), "bad_response"),
    Failing(
        "sends two lengths",
        lambda: peers.answers(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na"),
        "bad_response",
    ),
    Failing("sends a bad chunk at once", lambda: peers.answers(CHUNKED + b"ZZ\r\n"), "bad_response"),
    Failing(
        "sends a bad chunk later",
        lambda: peers.answers_in_two(CHUNKED + b"1\r\na\r\n", b"ZZ\r\n"),
        "bad_response",
    ),
    Failing(
        "closes behind a chunk",
        lambda: peers.answers_then_closes(CHUNKED + b"1\r\na\r\n"),
        "connection_closed",
    ),
    Failing(
        "sends a length and too little",
        lambda: peers.answers(HEAD + b"Content-Length: 9\r\n\r\nabc"),
        "timeout",
        at_deadline=True,
    ),
    Failing("closes at once", peers.closes_at_once, "connection_closed", None),
    Failing("closes in its head", lambda: peers.answers_then_closes(HEAD), "connection_closed"),
    Failing(
        "closes in its body",
        lambda: peers.answers_then_closes(HEAD + b"Content-Length: 9\r\n\r\nabc"),
        "connection_closed",
    ),
    Failing(
        "closes in a chunk", lambda: peers.answers_then_closes(CHUNKED + b"9\r\nabc"), "connection_closed"
    ),
    Failing(
        "speaks no TLS",
        lambda: peers.speaks_first(b"not TLS\r\n" * 9),
        "tls_failed",
        "connect",
        scheme="https",
    ),
]


@both_ways
@pytest.mark.parametrize("case", FAILING, ids=[case.name for case in FAILING])
def test_a_receiver_that_misbehaves_ends_in_an_error_in_time(loop: str, body: bytes, case: Failing) -> None:
    timeout_ms = DEADLINE_MS if case.at_deadline else LONG_MS

    async def story() -> None:
        async with HostilePeer(case.behaviour()) as peer, started() as egress:
            growth = Growth()
            begun = time.monotonic()
            async with growth.watched():
                url = peer.url("/?token=hunter2", scheme=case.scheme)
                error = await failure(egress, post(url, timeout_ms=timeout_ms, body=case.body or body))
            took = time.monotonic() - begun
            assert error.code == case.code
            assert case.phase in (None, error.phase)
            assert not error.permanent
            assert not error.reused_connection_closed
            assert f"127.0.0.1:{peer.port}" in error.message
            assert "hunter2" not in error.message + error.cause
            assert (
                (timeout_ms / 1000 - CLOCK_SLACK_SECONDS <= took < timeout_ms / 1000 + 1)
                if case.at_deadline
                else took < SOON_SECONDS
            )
            assert growth.bytes < MAX_GROWTH_BYTES
            assert await until(lambda: connections(egress) == 0), "a connection outlives its request"
            assert peer.connections == 1
            assert len(peer.requests) <= 1

    run(loop, story())


class Answered(NamedTuple):
    """A behaviour that still counts as a response."""

    name: str
    behaviour: Callable[[], Behaviour]
    status: int
    body: bytes
    truncated: bool
    body_sent: bytes = b""


BOMB = gzip.compress(b"\0" * (64 * MiB), 9)
ANSWERED = [
    Answered(
        "sends an endless body", lambda: peers.floods(HEAD + b"\r\n", b"x" * 65536), 200, b"x" * CAP, True
    ),
    Answered(
        "promises ten gigabytes",
        lambda: peers.floods(HEAD + b"Content-Length: 10000000000\r\n\r\n", b"x" * 65536),
        200,
        b"x" * CAP,
        True,
    ),
    Answered(
        "sends endless chunks",
        lambda: peers.floods(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"),
        200,
        b"x" * CAP,
        True,
    ),
    Answered(
        "sends endless chunks of one byte",
        lambda: peers.floods(CHUNKED, b"1\r\nx\r\n"),
        200,
        b"x" * CAP,
        True,
    ),
    Answered(
        "sends a gzip bomb",
        lambda: peers.answers(
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB
        ),
        200,
        BOMB[:CAP],
        True,
    ),
    Answered(
        "sends exactly the cap",
        lambda: peers.answers(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * CAP),
        200,
        b"x" * CAP,
        False,
    ),
    Answered(
        "answers before it has read",
        lambda: peers.answers_early(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"),
        413,
        b"no",
        False,
        body_sent=UPLOAD,
    ),
    Answered(
        "redirects",
        lambda: peers.answers(
            b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n"
        ),
        307,
        b"",
        False,
    ),
    Answered(
        "switches protocols",
        lambda: peers.answers(
            b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + b"\x81\x00" * 9
        ),
        101,
        b"",
        False,
    ),
    Answered("sends interim responses first", lambda: peers.answers(CONTINUE * 9 + OK), 200, b"ok", False),
    Answered(
        "sends bytes that are no text",
        lambda: peers.answers_then_closes(HEAD + b"\r\n\xff\x00"),
        200,
        b"\xff\x00",
        False,
    ),
]


@both_ways
@pytest.mark.parametrize("case", ANSWERED, ids=[case.name for case in ANSWERED])
def test_a_response_is_kept_raw_and_bounded(loop: str, body: bytes, case: Answered) -> None:
    async def story() -> None:
        async with HostilePeer(case.behaviour()) as peer, started() as egress:
            growth = Growth()
            begun = time.monotonic()
            async with growth.watched():
                response = await egress.request(post(peer.url(), body=case.body_sent or body))
            assert (response.status, response.body, response.truncated) == case[2:5]
            assert time.monotonic() - begun < SOON_SECONDS
            assert growth.bytes < MAX_GROWTH_BYTES
            kept_alive = case.name in ("sends exactly the cap", "redirects", "sends interim responses first")
            if case.name != "sends a gzip bomb":  # small enough to have come whole: then it may be kept
                assert await until(lambda: connections(egress) == kept_alive)
            assert peer.connections == 1
            assert len(peer.requests) == 1

    run(loop, story())


BOTH = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
TWICE = b"Content-Length: 2\r\n" * 2 + b"\r\n"


@both_ways
@pytest.mark.parametrize("closes", [False, True], ids=["kept open", "closed"])
@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (HEAD + BOTH, b""),
        (HEAD + BOTH + b"1", b"1"),
        (HEAD + BOTH + b"42", b"42"),
        (HEAD + BOTH + b"ok", b"ok"),
        (HEAD + BOTH + b"2\r\nok", b"ok"),
        (HEAD + EMPTY, b""),
        (HEAD + TWICE + b"o", b"o"),
    ],
    ids=repr,
)
def test_a_head_that_contradicts_itself_is_no_failure_and_is_not_waited_for(
    loop: str, body: bytes, answer: bytes, kept: bytes, closes: bool
) -> None:
    behaviour = peers.answers_then_closes(answer) if closes else peers.answers(answer)

    async def story() -> None:
        async with HostilePeer(behaviour) as peer, started() as egress:
            begun = time.monotonic()
            response = await egress.request(post(peer.url(), body=body))
            took = time.monotonic() - begun
            assert (response.status, response.body) == (200, kept)
            assert response.remark
            assert took < (0.5 if closes or EMPTY in answer else SOON_SECONDS)
            assert await until(lambda: connections(egress) == 0)
            assert len(peer.requests) == 1

    run(loop, story())


@both_ways
@pytest.mark.parametrize(
    ("behaviour", "kept"),
    [
        (lambda: peers.answers(HEAD + b"\r\nok"), b"ok"),
        (lambda: peers.answers(HEAD + b"Connection: close\r\n\r\nok"), b"ok"),
        (lambda: peers.answers(HEAD + b"Transfer-Encoding: identity\r\nConnection: close\r\n\r\nok"), b"ok"),
        (lambda: peers.answers(CHUNKED + b"2\r\nok\r\n0\r\n"), b"ok"),
        (lambda: peers.answers(HEAD + BOTH + b"42"), b""),
        (lambda: peers.drips(HEAD + BOTH, b"1\r\na\r\n"), None),
    ],
    ids=["no length", "closing, open", "identity, closing, open", "no last line end", "both", "drips"],
)
def test_when_the_time_is_up_a_head_that_is_enough_is_the_answer(
    loop: str, body: bytes, behaviour: Callable[[], Behaviour], kept: bytes | None
) -> None:
    async def story() -> None:
        async with HostilePeer(behaviour()) as peer, started() as egress:
            response = await egress.request(post(peer.url(), body=body, timeout_ms=DEADLINE_MS))
            assert response.status == 200
            assert response.remark
            assert set(response.body) == set(b"a") if kept is None else response.body == kept
            assert await until(lambda: connections(egress) == 0)

    run(loop, story())


@both_ways
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 410 Gone\r\nContent-Le",
        b"HTTP/1.1 204 No Content\r\n\r\nH",
        OK + b"HTTP/1.1 200",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=repr,
)
def test_what_has_begun_behind_an_answer_is_noted_and_its_connection_closed(
    loop: str, body: bytes, answer: bytes
) -> None:
    """Fails when the next request on it gets the rest for its own answer."""

    async def story() -> None:
        async with HostilePeer(peers.answers(answer)) as peer, started() as egress:
            for count in (1, 2):
                assert (await egress.request(post(peer.url(), body=body))).remark
                assert peer.connections == count
            assert await until(lambda: connections(egress) == 0)

    run(loop, story())


def test_bytes_behind_that_come_before_the_answer_was_taken_are_noted() -> None:
    async def story() -> None:
        async with HostilePeer(peers.hangs()) as peer, started() as egress:
            task = asyncio.create_task(egress.request(post(peer.url())))
            assert await until(lambda: connections(egress) == 1 and bool(peer.connections))
            assert egress._connector is not None
            (connection,) = egress._connector.open
            await asyncio.sleep(0.05)
            # two segments in one turn of the loop
            connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.data_received(b"{}")
            response = await task
            assert response.status == 204
            assert response.remark == BEHIND
            assert await until(lambda: connections(egress) == 0)

    run("uvloop", story())


@both_loops
def test_an_endless_body_costs_no_memory_while_many_read_it(loop: str) -> None:
    async def story() -> None:
        flood = peers.floods(HEAD + b"\r\n", b"x" * 65536)
        async with HostilePeer(flood) as peer, started() as egress:
            growth = Growth()
            request = post(peer.url(), max_response_bytes=64 * 1024)
            await asyncio.gather(*(egress.request(request) for _ in range(10)))
            async with growth.watched():
                found = await asyncio.gather(*(egress.request(request) for _ in range(20)))
            assert all(response.truncated and len(response.body) == 64 * 1024 for response in found)
            assert growth.bytes < MAX_GROWTH_BYTES

    run(loop, story())


@both_loops
def test_headers_are_text_that_can_be_stored(loop: str) -> None:
    head = (
        HEAD
        + b"X-Latin: \xff\xfe\x80\r\nX-Utf8: caf\xc3\xa9\r\nX-Bell: a\x07\x1b[31mb\r\nX-Surrogate: \xed\xa0\x80\r\n"
        + b"X-Tab: a\tb\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 0\r\n\r\n"
    )

    async def story() -> HttpResponse:
        async with HostilePeer(peers.answers(head)) as peer, started() as egress:
            return await egress.request(post(peer.url()))

    response = run(loop, story())
    assert response.headers[:2] == (("X-Latin", "ÿþ\ufffd"), ("X-Utf8", "café"))
    assert dict(response.headers)["X-Bell"] == "a\ufffd\ufffd[31mb"
    assert dict(response.headers)["X-Tab"] == "a\tb"
    assert [value for name, value in response.headers if name == "X-Twice"] == ["1", "2"]
    stored = json.dumps(response.headers, ensure_ascii=False).encode()  # raises for a lone surrogate
    assert b"\\u0000" not in stored


@both_loops
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_kept_alive_connection_that_dies_gets_no_second_request(
    loop: str, method: str, reset: bool
) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers_then_dies(reset=reset)) as peer, started() as egress:
            body = b"" if method == "GET" else b"hello"
            assert (await egress.request(post(peer.url("/1"), method=method, body=body))).status == 200
            error = await failure(egress, post(peer.url("/2"), method=method, body=body))
            assert error.code == "connection_closed"
            assert error.reused_connection_closed
            assert [head.split()[1] for head in peer.requests] == [b"/1", b"/2"]
            assert peer.connections == 1

    run(loop, story())


@both_loops
def test_a_response_that_nobody_asked_for_is_not_given_to_the_next_request(loop: str) -> None:
    late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"

    async def story() -> None:
        async with HostilePeer(peers.answers_in_two(OK, late)) as peer, started() as egress:
            assert (await egress.request(post(peer.url()))).status == 200
            assert await until(lambda: connections(egress) == 0), "an idle connection that speaks is dropped"
            assert (await egress.request(post(peer.url()))).status == 200
            assert peer.connections == 2

    run(loop, story())


@both_loops
def test_a_connection_is_kept_alive_and_nothing_is_added_to_a_request(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as peer, started() as egress:
            await egress.request(post(peer.url("/%61/../?b=c%2F%20d#e"), headers={"X-Test": "1"}))
            await egress.request(post(peer.url(), method="GET", body=b"", headers={}))
            host = f"Host: 127.0.0.1:{peer.port}\r\nAccept-Encoding: identity\r\n".encode()
            assert peer.requests == [
                b"POST /%61/../?b=c%2F%20d HTTP/1.1\r\n" + host + b"X-Test: 1\r\nContent-Length: 5\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"\r\n",
            ]
            assert peer.connections == 1

    run(loop, story())


@both_ways
def test_headers_of_any_bytes_but_controls_are_sent_as_they_are(loop: str, body: bytes) -> None:
    values = {"X-Latin": (b"caf\xe9",), "X-Twice": (b"2", b"caf\xc3\xa9\t\xff", b"1", b"2"), "X-None": (b"",)}

    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as peer, started() as egress:
            assert (await egress.request(post(peer.url(), body=body, opaque=values))).status == 200
            (head,) = peer.requests
            sent = [line.split(b": ", 1) for line in head.rstrip().split(b"\r\n")[1:]]
            for name, lines in values.items():
                assert tuple(value for found, value in sent if found == name.encode()) == lines

    run(loop, story())


@both_loops
def test_a_large_body_arrives_whole(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as peer, started() as egress:
            for size in (0, 1, 64 * 1024, 64 * 1024 + 1, 3 * MiB):
                assert (await egress.request(post(peer.url(), body=b"x" * size))).status == 200
            assert [head.split(b"Content-Length: ")[1] for head in peer.requests] == [
                b"%d\r\n\r\n" % size for size in (0, 1, 64 * 1024, 64 * 1024 + 1, 3 * MiB)
            ]

    run(loop, story())


@both_loops
def test_cookies_and_the_environment_change_nothing(
    loop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cookie = HEAD + b"Set-Cookie: session=1; Path=/\r\nContent-Length: 0\r\n\r\n"

    async def story() -> None:
        async with (
            HostilePeer(peers.answers(cookie)) as peer,
            HostilePeer(peers.answers(OK)) as proxy,
        ):
            netrc = tmp_path / "netrc"
            netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
            monkeypatch.setenv("NETRC", str(netrc))
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url())
            async with started() as egress:
                for _ in range(2):
                    await egress.request(post(peer.url(), headers={}))
            assert proxy.connections == 0
            assert len(peer.requests) == 2
            assert not any(b"ookie" in head or b"uthorization" in head for head in peer.requests)

    run(loop, story())


BAD_REQUESTS: list[dict[str, Any]] = [
    {"headers": {"X": "a\r\nY: b"}},
    {"headers": {"X": "a\nY: b"}},
    {"headers": {"X": "a\x00"}},
    {"headers": {"X": "é"}},
    {"headers": {"X": "\ud800"}},
    {"headers": {"X": 1}},
    {"headers": {"X: y\r\nZ": "a"}},
    {"headers": {"X Y": "a"}},
    {"headers": {"": "a"}},
    {"headers": {"Host": "metadata"}},
    {"headers": {"content-length": "0"}},
    {"headers": {"Transfer-Encoding": "chunked"}},
    {"headers": {"Connection": "upgrade"}},
    {"headers": {"Expect": "100-continue"}},
    {"opaque": {"X": (b"a\r\nY: b",)}},
    {"opaque": {"X": (b"a", b"a\nY: b")}},
    {"opaque": {"X": (b"a\x00\xe9",)}},
    {"opaque": {"X": (b"\x7f",)}},
    {"opaque": {"X: y\r\nZ": (b"a",)}},
    {"opaque": {"Content-Length": (b"0",)}},
    {"opaque": {"X\u00e9": (b"a",)}},
    {"method": "GET / HTTP/1.1\r\nX: y"},
    {"method": "CONNECT"},
    {"method": ""},
    {"path": "/\r\nX: y"},
    {"path": "/\x00"},
    {"path": "/\ud800"},
    {"path": "/\t"},
    {"path": "/ "},
    {"path": "/\x7f"},
    {"path": "/\u00e9"},
    {"path": "/?\u2028"},
]


@pytest.mark.parametrize("changes", BAD_REQUESTS, ids=[ascii(changes) for changes in BAD_REQUESTS])
def test_what_cannot_be_sent_is_refused_for_good_and_nothing_leaves(changes: dict[str, Any]) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as peer, started() as egress:
            changed = dict(changes)
            url = f"http://127.0.0.1:{peer.port}{changed.pop('path', '/')}"
            error = await failure(egress, post(url, **changed))
            assert error.code == "bad_request"
            assert error.permanent
            assert error.before_send
            assert (await egress.request(post(peer.url("/after")))).status == 200
            assert [head.split()[1] for head in peer.requests] == [b"/after"]

    run("uvloop", story())


# Hosts that look like something else, with the name or address that they are.
DIALLED = {
    "http://public.example\\@127.0.0.1/": None,
    "http://public.example@127.0.0.1/": None,
    "http://127.0.0.1#@public.example/": "127.0.0.1",
    "http://127.0.0.1?@public.example/": "127.0.0.1",
    "http://127.0.0.1/@public.example/": "127.0.0.1",
    "http://127.0.0.1/http://public.example/": "127.0.0.1",
    "http://\u24db\u24de\u24d2\u24d0l.example/": "local.example",
    "http://PUBLIC.example:80/": "public.example",
    "http://caf\u00e9.example/": "xn--caf-dma.example",
    "http://a_b.example./": "a_b.example.",
    "http://127.1/": None,
    "http://2130706433/": None,
    "http://0127.0.0.1/": None,
    "http://[v1.a]/": None,
    "http://0x7f.1/": "0x7f.1",
    "http://a..b/": None,
    "http://public.example:8a/": None,
    "http://public.example%2f/": None,
    "http://public.example/\u00e9": None,
}


@pytest.mark.parametrize("url", DIALLED, ids=ascii)
def test_the_host_that_is_judged_is_the_one_in_the_url_and_saving_agrees(url: str) -> None:
    """Fails when saving and sending read it differently, or another host is dialled."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    async def story() -> EgressError:
        egress = Egress(guard=AddressGuard(), dns_threads=4, connection_limit=2, getaddrinfo=getaddrinfo)
        await egress.open()
        try:
            return await failure(egress, post(url))
        finally:
            await egress.close()

    error, host = run("uvloop", story()), DIALLED[url]
    assert error.code == ("bad_request" if host is None else "blocked_address")
    assert asked == ([] if host in (None, "127.0.0.1") else [host])
    if host is None:
        with pytest.raises(ValueError, match="URL"):
            check_url(url)
    else:
        assert check_url(url) == url


@both_loops
def test_refused_connections_are_told_apart(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as peer:
            url = peer.url()
        async with started() as egress:
            error = await failure(egress, post(url))
            assert (error.code, error.phase, error.before_send) == ("connect_failed", "connect", True)
            assert "refused" in error.message

    run(loop, story())


@both_loops
def test_a_name_server_that_hangs_is_cut_too(loop: str) -> None:
    release = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> Any:
        release.wait(SOON_SECONDS)
        return []

    async def story() -> None:
        async with started(getaddrinfo=getaddrinfo) as egress:
            begun = time.monotonic()
            error = await failure(egress, post("http://slow.example/", timeout_ms=DEADLINE_MS))
            assert (error.code, error.phase) == ("timeout", "resolve")
            assert time.monotonic() - begun < DEADLINE_MS / 1000 + 1
            release.set()

    run(loop, story())


@both_loops
def test_a_caller_who_is_cancelled_leaves_no_connection(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.hangs()) as peer, started() as egress:
            task = asyncio.create_task(egress.request(post(peer.url(), body=UPLOAD)))
            assert await until(lambda: peer.connections == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await until(lambda: connections(egress) == 0)

    run(loop, story())


@both_loops
def test_closing_ends_what_is_under_way(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.hangs()) as peer, started() as egress:
            # more than may be connected: the rest waits for a connection and must end as well
            tasks = [asyncio.create_task(egress.request(post(peer.url(), body=UPLOAD))) for _ in range(30)]
            assert await until(lambda: peer.connections == 20)
            async with asyncio.timeout(SOON_SECONDS):
                await egress.close()
                found = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(error) for error in found} == {EgressError}
            assert (await failure(egress, post(peer.url()))).code == "connect_failed"
            assert peer.connections == 20

    run(loop, story())


@both_loops
def test_idle_connections_are_bounded(loop: str) -> None:
    async def story() -> None:
        many = [HostilePeer(peers.answers(OK)) for _ in range(8)]
        egress = Egress(guard=AddressGuard((LOOPBACK,)), dns_threads=4, connection_limit=2)
        await egress.open()
        try:
            for peer in many:
                await peer.__aenter__()
                await egress.request(post(peer.url()))
            assert await until(lambda: connections(egress) <= 3)
        finally:
            await egress.close()
            for peer in many:
                await peer.__aexit__(None, None, None)

    run(loop, story())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "peer.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@both_loops
def test_https_checks_the_certificate_and_is_cut_like_http(loop: str, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def story() -> None:
        async with HostilePeer(peers.answers(OK), tls=server) as peer:
            url = peer.url(scheme="https")
            async with started(ssl_context=trusting) as egress:
                for body in (b"hello", UPLOAD):
                    assert (await egress.request(post(url, body=body))).body == b"ok"
                assert peer.connections == 1
            async with started() as egress:
                error = await failure(egress, post(url))
                assert (error.code, error.phase) == ("tls_failed", "connect")
                assert "self-signed" in error.message.replace(" ", "-")
        flood = peers.floods(HEAD + b"\r\n", b"x" * 65536)
        async with HostilePeer(flood, tls=server) as peer, started(ssl_context=trusting) as egress:
            response = await egress.request(post(peer.url(scheme="https")))
            assert response.truncated
            assert await until(lambda: connections(egress) == 0)
        async with HostilePeer(peers.hangs(), tls=server) as peer, started(ssl_context=trusting) as egress:
            for body in (UPLOAD, b"hello"):
                request = post(peer.url(scheme="https"), body=body, timeout_ms=DEADLINE_MS)
                assert (await failure(egress, request)).code == "timeout"
                assert await until(lambda: connections(egress) == 0)

    run(loop, story())


def test_the_bound_on_a_head_lets_large_but_honest_ones_through() -> None:
    policy = b"Content-Security-Policy: " + b"x" * 60_000 + b"\r\n"
    many = b"".join(b"X-%d: y\r\n" % i for i in range(200))
    head = HEAD + policy + many + b"Content-Length: 0\r\n\r\n"
    assert len(head) < MAX_HEAD_BYTES

    async def story() -> None:
        async with HostilePeer(peers.answers(head)) as peer, started() as egress:
            assert len((await egress.request(post(peer.url()))).headers) == 202

    run("uvloop", story())
