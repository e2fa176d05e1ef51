"""Token servers that lead elsewhere, that never answer, that say back what they were told: what is
true of receivers is true of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import pytest

from shared.config import Settings
from shared.credentials import parse_meta
from shared.errors import Invalid
from tests.peers import hostile_http as peers
from tests.peers.hostile_http import OK, HostilePeer, run, until
from tests.security.test_address_guard import BLOCKED_HOSTS, NAMES, PUBLIC, REFUSED_URLS, Names, started
from tests.security.test_egress_hostile import connections
from worker.actions.credentials import Access, Answer, send
from worker.actions.oauth import Grant
from worker.egress import tokens
from worker.egress.addresses import AddressGuard
from worker.egress.errors import EgressError
from worker.egress.http import SPARE_CONNECTIONS, Egress
from worker.egress.messages import HttpRequest
from worker.egress.tokens import NoToken
from worker.probes import prober

SECRET = "s3cret-of-a-client"
PAIR = base64.b64encode(f"me:{SECRET}".encode())
TOKEN = b'{"access_token": "t0k", "expires_in": 3600}'
GIVES = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN)
MIXED = {"mixed.example": [[PUBLIC, "127.0.0.1"]], "xdexim.example": [["127.0.0.1", PUBLIC]]}

only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on loopback"
)


def access(token_url: str, key: str = "credential", **grant: Any) -> Access:
    known = Grant(token_url, "me", SECRET, None, None, in_body=False, tenant="tenant")
    return Access((key, "version"), known._replace(**grant))


def delivery(url: str, timeout_ms: int = 5_000) -> HttpRequest:
    return HttpRequest("POST", url, {}, b"x", timeout_ms, 1_000, "tenant")


async def refusal(egress: Egress, receiver: HostilePeer, token_url: str, **grant: Any) -> NoToken:
    """Why nothing could be sent."""
    found = await send(delivery(receiver.url()), access(token_url, token_url, **grant), egress)
    assert isinstance(found, NoToken), found
    assert SECRET not in found.message
    assert receiver.connections == 0, "nothing is sent without a token"
    return found


@only_linux
@pytest.mark.parametrize("in_body", [False, True], ids=["in a header", "in the form"])
def test_no_token_is_fetched_from_where_the_guard_forbids(
    in_body: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is spelled, and whatever proxy the environment names."""

    async def story() -> None:
        names = Names({**NAMES, **MIXED})
        async with (
            HostilePeer(peers.answers(GIVES)) as canary,
            HostilePeer(peers.answers(OK), host="127.0.0.3") as receiver,
            started("127.0.0.3/32", getaddrinfo=names) as egress,
        ):
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, canary.url())
            for host in (*BLOCKED_HOSTS, *MIXED):
                url = f"http://{host}:{canary.port}/token"
                found = await refusal(egress, receiver, url, in_body=in_body)
                assert (found.retryable, "are not allowed" in found.message) == (False, True), host
            assert canary.connections == 0

    run("uvloop", story())


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_token_url_or_an_origin_that_hides_where_it_goes_is_refused_when_it_is_saved(url: str) -> None:
    fine = {
        "kind": "oauth2",
        "clientId": "me",
        "tokenUrl": "https://x.example/",
        "origins": ["https://x.example"],
    }
    for field, value in (("tokenUrl", url.format(port=80)), ("origins", [url.format(port=80)])):
        with pytest.raises(Invalid) as error:
            parse_meta("GENERIC", {**fine, field: value})
        assert f"meta.{field}" in error.value.message
        assert "hunter2" not in error.value.message + error.value.hint


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_nor_is_one_called_that_came_into_a_row_by_hand(url: str) -> None:
    """Even where loopback is allowed."""

    async def story() -> None:
        async with (
            HostilePeer(peers.answers(GIVES)) as canary,
            HostilePeer(peers.answers(OK)) as receiver,
            started("127.0.0.0/8") as egress,
        ):
            found = await refusal(egress, receiver, url.format(port=canary.port))
            assert not found.retryable
            assert "hunter2" not in found.message
            assert canary.connections == 0

    run("uvloop", story())


@only_linux
def test_a_name_that_changes_its_answer_is_checked_each_time() -> None:
    """127.0.0.2 stands for a public address: it and the receiver's alone are allowed."""

    async def story() -> None:
        names = Names({"rebind.example": [["127.0.0.2"], ["127.0.0.1"]]})
        closing = GIVES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        async with (
            HostilePeer(peers.answers_then_closes(closing), host="127.0.0.2") as honest,
            HostilePeer(peers.answers(GIVES), host="127.0.0.1", port=honest.port) as canary,
            HostilePeer(peers.answers(OK), host="127.0.0.3") as receiver,
            started("127.0.0.2/31", getaddrinfo=names, dns_cache_seconds=0) as egress,
        ):
            url = f"http://rebind.example:{honest.port}/token"
            assert isinstance(await send(delivery(receiver.url()), access(url, "one"), egress), Answer)
            found = await send(delivery(receiver.url()), access(url, "another"), egress)
            assert isinstance(found, NoToken)
            assert "are not allowed" in found.message
            assert (honest.connections, canary.connections) == (1, 0)
            assert len(receiver.requests) == 1

    run("uvloop", story())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("in_body", [False, True], ids=["in a header", "in the form"])
def test_a_redirect_takes_no_client_secret_along(status: int, in_body: bool) -> None:
    async def story() -> None:
        async with (
            HostilePeer(peers.answers(GIVES)) as canary,
            HostilePeer(peers.answers(OK)) as receiver,
        ):
            moved = f"HTTP/1.1 {status} X\r\nLocation: {canary.url()}\r\nContent-Length: 0\r\n\r\n".encode()
            async with HostilePeer(peers.answers(moved)) as server, started("127.0.0.0/8") as egress:
                found = await refusal(egress, receiver, server.url(), in_body=in_body)
                assert f"answered {status}" in found.message
                assert len(server.requests) == 1
            assert canary.connections == 0

    run("uvloop", story())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_no_token_along(status: int) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as canary, HostilePeer(peers.answers(GIVES)) as server:
            moved = f"HTTP/1.1 {status} X\r\nLocation: {canary.url()}\r\nContent-Length: 0\r\n\r\n".encode()
            async with HostilePeer(peers.answers(moved)) as receiver, started("127.0.0.0/8") as egress:
                found = await send(delivery(receiver.url()), access(server.url()), egress)
                assert isinstance(found, Answer)
                assert found.response.status == status
                assert b"authorization: Bearer t0k" in receiver.requests[0]
            assert canary.connections == 0

    run("uvloop", story())


def test_what_a_token_server_says_back_is_told_without_what_it_was_told() -> None:
    said = {"error": "of mine", "error_description": f"{SECRET} {PAIR.decode()} /token?p=p0licy"}
    body = json.dumps(said).encode()

    async def story() -> None:
        answer = b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        async with (
            HostilePeer(peers.answers(answer)) as server,
            HostilePeer(peers.answers(OK)) as receiver,
            started("127.0.0.0/8") as egress,
        ):
            found = await refusal(egress, receiver, server.url("/token?p=p0licy"))
            assert "(of mine: *** *** /token?p=***)" in found.message

    run("uvloop", story())


def test_token_servers_that_hang_take_no_connection_from_deliveries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when what is left behind by attempts whose time is up fills the worker's connections:
    one tenant with many credentials and short time limits would stop all others.
    """

    monkeypatch.setattr(tokens, "MAX_UNAWAITED", 3)

    async def story() -> None:
        async with (
            HostilePeer(peers.hangs()) as server,
            HostilePeer(peers.answers(OK)) as receiver,
            started("127.0.0.0/8", connection_limit=2 + 3) as egress,
        ):
            for number in range(12):
                hurried = send(delivery(receiver.url(), 30), access(server.url(), f"{number}"), egress)
                assert isinstance(await hurried, NoToken)
            assert await until(lambda: connections(egress) <= 3), connections(egress)
            answers = [send(delivery(receiver.url(), 2_000), None, egress) for _ in range(2)]
            found = await asyncio.gather(*answers, return_exceptions=True)
            assert not [one for one in found if isinstance(one, EgressError)], found

    run("uvloop", story())


def test_a_worker_has_connections_for_all_that_has_no_place() -> None:
    assert tokens.MAX_UNAWAITED + prober.MAX_AT_ONCE <= SPARE_CONNECTIONS
    settings = Settings(capacity=7)
    assert Egress.make(settings)._connection_limit == 7 + SPARE_CONNECTIONS


def test_the_canary_would_see_a_hit() -> None:
    """Without it the others would show nothing."""

    async def story() -> None:
        async with (
            HostilePeer(peers.answers(GIVES)) as server,
            HostilePeer(peers.answers(OK)) as receiver,
            started(guard=AddressGuard(show=True), getaddrinfo=Names()) as guarded,
            started("127.0.0.0/8") as egress,
        ):
            assert "127.0.0.1" in (await refusal(guarded, receiver, server.url())).message
            assert isinstance(await send(delivery(receiver.url()), access(server.url()), egress), Answer)
            assert (server.connections, receiver.connections) == (1, 1)
            assert b"authorization: Basic " + PAIR in server.requests[0]

    run("uvloop", story())
