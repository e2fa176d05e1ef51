"""No spelling of an address and no trick with names reaches what the guard forbids.

A canary listens on 127.0.0.1 and must not see one connection. All traffic stays on loopback: names
are answered by a table, and what the table does not know may only be a number.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from tests.peers import hostile_http as peers
from tests.peers.hostile_http import OK, HostilePeer, run
from worker.egress.addresses import AddressGuard
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import HttpRequest

PUBLIC = "93.184.216.34"
TIMEOUT_MS = 5_000

both_loops = pytest.mark.parametrize("loop", sorted(peers.LOOPS))


class Names:
    """getaddrinfo from a table; each look-up of a name takes the next of its answers, then keeps
    the last.
    """

    def __init__(self, table: dict[str, list[list[str]]] | None = None) -> None:
        self.table = table or {}
        self.asked: list[str] = []

    def __call__(self, host: str, port: Any, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host not in self.table:
            return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
        answers = self.table[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [_entry(address) for address in found]


def _entry(address: str) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


@asynccontextmanager
async def started(*allow: str, guard: AddressGuard | None = None, **settings: Any) -> AsyncIterator[Egress]:
    guard = guard or AddressGuard(tuple(ip_network(network) for network in allow))
    settings = {"getaddrinfo": Names(), "connection_limit": 20, **settings}
    egress = Egress(guard=guard, dns_threads=4, **settings)
    await egress.open()
    try:
        yield egress
    finally:
        await egress.close()


def get(url: str) -> HttpRequest:
    return HttpRequest(
        method="GET",
        url=url,
        headers={},
        body=b"",
        timeout_ms=TIMEOUT_MS,
        max_response_bytes=1000,
        tenant="tenant",
    )


async def refusal(egress: Egress, url: str) -> EgressError:
    with pytest.raises(EgressError) as caught:
        await egress.request(get(url))
    assert caught.value.permanent
    assert caught.value.before_send
    return caught.value


BLOCKED_HOSTS = [
    # this machine
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "0x7f.1",
    "0x7f000001",
    "0x7f.0.0.1",
    "127.0x0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    # digits that IDNA turns into ASCII
    "１２７.０.０.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    # an IPv4 address inside an IPv6 one
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001::7f00:1]",
    # private networks and metadata services
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[::ffff:169.254.169.254]",
    # names that anybody can register
    "127.0.0.1.nip.example",
    "metadata.example",
    "v6.example",
]
NAMES = {
    "localhost": [["127.0.0.1"]],
    "LOCALHOST": [["127.0.0.1"]],
    "localhost.": [["127.0.0.1"]],
    "127.0.0.1.nip.example": [["127.0.0.1"]],
    "metadata.example": [["169.254.169.254"]],
    "v6.example": [["::ffff:127.0.0.1"]],
}


@both_loops
@pytest.mark.parametrize("host", BLOCKED_HOSTS)
def test_every_spelling_of_a_forbidden_address_is_blocked(loop: str, host: str) -> None:
    async def story() -> None:
        async with (
            HostilePeer(peers.answers(OK)) as canary,
            started(getaddrinfo=Names(dict(NAMES))) as egress,
        ):
            error = await refusal(egress, f"http://{host}:{canary.port}/secret")
            assert error.code == "blocked_address"
            assert "secret" not in error.message
            assert canary.connections == 0

    run(loop, story())


REFUSED_URLS = [
    "http://good@127.0.0.1:{port}/",
    "http://good:hunter2@127.0.0.1:{port}/",
    "http://:hunter2@127.0.0.1:{port}/",
    "http://good.example\\@127.0.0.1:{port}/",
    "http://good.example%2f@127.0.0.1:{port}/",
    "http://good.example%23@127.0.0.1:{port}/",
    # numbers that only a C library takes for an address
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://127.000.000.001:{port}/",
    # text that parsers read in different ways
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: x",
    "http://127.0.0.1 :{port}/",
    "http://127.0.0.1:{port}:80/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[fe80::1%25eth0]:{port}/",
    "http://[::1:{port}/",
    "http://127.0.0.1:99999/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http://",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    "",
    # other protocols
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "tcp://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
@pytest.mark.parametrize("allow", [(), ("127.0.0.0/8",)], ids=["guarded", "allowed"])
def test_a_url_that_hides_where_it_goes_is_refused_even_where_loopback_is_allowed(
    url: str, allow: tuple[str, ...]
) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as canary, started(*allow) as egress:
            error = await refusal(egress, url.format(port=canary.port))
            assert error.code == "bad_request"
            assert "hunter2" not in error.message
            assert canary.connections == 0

    run("uvloop", story())


@both_loops
@pytest.mark.parametrize(
    "answers",
    [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::1"], ["2606:4700::1", "127.0.0.1"]],
    ids=str,
)
def test_one_private_answer_spoils_all(loop: str, answers: list[str]) -> None:
    async def story() -> None:
        names = Names({"mixed.example": [answers]})
        async with HostilePeer(peers.answers(OK)) as canary, started(getaddrinfo=names) as egress:
            error = await refusal(egress, f"http://mixed.example:{canary.port}/")
            assert (error.code, error.phase) == ("blocked_address", "resolve")
            assert canary.connections == 0

    run(loop, story())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on loopback")
@both_loops
def test_a_name_that_changes_its_answer_is_checked_each_time(loop: str) -> None:
    """127.0.0.2 stands for a public address: it alone is allowed."""

    async def story() -> None:
        names = Names({"rebind.example": [["127.0.0.2"], ["127.0.0.1"]]})
        closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        async with (
            HostilePeer(peers.answers_then_closes(closing), host="127.0.0.2") as honest,
            started("127.0.0.2/32", getaddrinfo=names, dns_cache_seconds=0) as egress,
            _canary_on_the_port_of(honest) as canary,
        ):
            url = f"http://rebind.example:{honest.port}/"
            assert (await egress.request(get(url))).status == 200
            assert (await refusal(egress, url)).code == "blocked_address"
            assert names.asked == ["rebind.example"] * 2
            assert (honest.connections, canary.connections) == (1, 0)

    run(loop, story())


def _canary_on_the_port_of(peer: HostilePeer) -> HostilePeer:
    return HostilePeer(peers.answers(OK), host="127.0.0.1", port=peer.port)


@both_loops
def test_the_dialled_address_is_checked_whatever_the_look_up_said(loop: str) -> None:
    class Fooled(AddressGuard):
        """Believes the first address that it is shown, as if the look-up had not been checked."""

        checks = 0

        def check(self, address: str) -> None:
            self.checks += 1
            if self.checks > 1:
                super().check(address)

    async def story() -> None:
        guard = Fooled()
        names = Names({"fooled.example": [["127.0.0.1"]]})
        async with (
            HostilePeer(peers.answers(OK)) as canary,
            started(guard=guard, getaddrinfo=names) as egress,
        ):
            error = await refusal(egress, f"http://fooled.example:{canary.port}/")
            assert (error.code, error.phase) == ("blocked_address", "connect")
            assert guard.checks == 2
            assert canary.connections == 0

    run(loop, story())


@both_loops
def test_a_redirect_into_the_private_network_is_not_followed(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as canary:
            redirect = f"HTTP/1.1 302 Go\r\nLocation: {canary.url()}\r\nContent-Length: 0\r\n\r\n".encode()
            async with HostilePeer(peers.answers(redirect)) as peer, started("127.0.0.0/8") as egress:
                assert (await egress.request(get(peer.url()))).status == 302
            assert canary.connections == 0

    run(loop, story())


@both_loops
@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "localhost", "①②⑦.⓪.⓪.①", "127.0.0.1.nip.example"])
def test_where_loopback_is_allowed_it_is_reached(loop: str, host: str) -> None:
    async def story() -> None:
        async with (
            HostilePeer(peers.answers(OK)) as peer,
            started("127.0.0.0/8", getaddrinfo=Names(dict(NAMES))) as egress,
        ):
            assert (await egress.request(get(f"http://{host}:{peer.port}/"))).body == b"ok"
            assert peer.connections == 1
            for forbidden in ("10.0.0.1", "169.254.169.254", "[::1]"):
                assert (await refusal(egress, f"http://{forbidden}/")).code == "blocked_address"

    run(loop, story())


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
@both_loops
def test_a_mapped_address_is_allowed_as_the_one_it_stands_for(loop: str) -> None:
    async def story() -> str:
        async with HostilePeer(peers.answers(OK)) as peer, started("127.0.0.0/8") as egress:
            try:
                response = await egress.request(get(f"http://[::ffff:127.0.0.1]:{peer.port}/"))
            except EgressError as error:
                return error.code
            return response.body.decode()

    # connect_failed: the guard let it through, and this machine's kernel has no IPv6
    assert run(loop, story()) in ("ok", "connect_failed")


@both_loops
def test_a_blocked_address_takes_no_connection_from_the_others(loop: str) -> None:
    async def story() -> None:
        async with HostilePeer(peers.answers(OK)) as canary, started() as egress:
            errors = await asyncio.gather(
                *(egress.request(get(canary.url())) for _ in range(100)), return_exceptions=True
            )
            assert {getattr(error, "code", None) for error in errors} == {"blocked_address"}
            assert canary.connections == 0

    run(loop, story())
