"""A test button reaches nothing that the guard forbids, however an address is spelled.

A canary listens on 127.0.0.1 and must not see one connection. Names are answered by a table, and
what the table does not know may only be a number.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest

from shared.config import Settings
from tests.probing import probing, result_of, write_credential_probe, write_probe
from tests.running import eventually
from tests.security.test_address_guard import BLOCKED_HOSTS, NAMES, PUBLIC, REFUSED_URLS, Names
from tests.world import World
from worker.egress.addresses import AddressGuard
from worker.egress.http import Egress
from worker.probes.shown import REFUSED

MIXED = {
    "mixed.example": [[PUBLIC, "127.0.0.1"]],
    "xdexim.example": [["127.0.0.1", PUBLIC]],
    "mixed6.example": [["2606:4700::1", "::1"]],
}
REBOUND = {"rebind.example": [["127.0.0.2"], ["127.0.0.1"]]}


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """Where nobody may connect: connections would wait here to be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


def hits(listening: socket.socket) -> int:
    found = 0
    while True:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return found
        connection.close()
        found += 1


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door of production, but for who answers names."""

    def make(settings: Settings) -> Egress:
        return Egress(
            guard=AddressGuard(settings.egress_allow, settings.egress_deny, show=True),
            dns_threads=4,
            connection_limit=20,
            getaddrinfo=Names(deepcopy({**NAMES, **MIXED, **REBOUND})),  # a name that was answered is used up
            dns_cache_seconds=0,
        )

    monkeypatch.setattr(Egress, "make", make)


def probe_of(world: World, url: str) -> UUID:
    return write_probe(world, world.action(config=json.dumps({"url": url})))


def results(world: World, ids: list[UUID]) -> list[dict[str, Any]]:
    return [result_of(world, probe_id, 60) for probe_id in ids]


def test_every_spelling_of_a_forbidden_address_is_refused(
    world: World, guarded: None, canary: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a proxy of the environment lead around the guard."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port_of(canary)}")
    hosts = [*BLOCKED_HOSTS, *MIXED]
    ids = [probe_of(world, f"http://{host}:{port_of(canary)}/secret") for host in hosts]
    with probing(world, environment="production", egress_allow="") as (_, prober):
        prober.look()
        found = results(world, ids)
    assert {(r["code"], r["error"], r["outcome"]) for r in found} == {("blocked_address", REFUSED, "failure")}
    assert all(r["address"] and r["request"] is None and r["response"] is None for r in found)
    assert hits(canary) == 0


def test_no_credential_goes_to_a_forbidden_address(
    world: World, guarded: None, canary: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a token fetched from one, for a receiver that is fine; nor through a proxy of the
    environment.
    """
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port_of(canary)}")
    origins = [f"http://{host}:{port_of(canary)}" for host in (*BLOCKED_HOSTS, *MIXED)]
    ids = [write_credential_probe(world, f"{origin}/me") for origin in origins]
    tokens = [
        write_credential_probe(
            world, "http://127.0.0.3:9/", kind="oauth2", tokenUrl=f"{origin}/token", clientId="me"
        )
        for origin in origins
    ]
    with probing(world, environment="local", egress_allow="127.0.0.3/32") as (_, prober):
        prober.look()
        found, others = results(world, ids), results(world, tokens)
    assert {(r["code"], r["error"]) for r in found} == {("blocked_address", REFUSED)}
    assert {(r["code"], r["error"]) for r in others} == {("oauth_failed", REFUSED)}
    assert all(r["address"] and r["request"] is None for r in (*found, *others))
    assert "s3cret-canary" not in json.dumps([found, others])
    assert hits(canary) == 0


def test_a_url_that_hides_where_it_goes_is_refused(
    world: World, guarded: None, canary: socket.socket
) -> None:
    """Even where loopback is allowed. Nor is a credential shown there, or a token bought."""
    urls = [url.format(port=port_of(canary)) for url in REFUSED_URLS]
    ids = [probe_of(world, url) for url in urls]
    shown = [write_credential_probe(world, url) for url in urls]
    bought = [
        write_credential_probe(world, "http://127.0.0.3:9/", kind="oauth2", tokenUrl=url, clientId="me")
        for url in urls
    ]
    with probing(world, egress_allow="127.0.0.0/8") as (_, prober):
        prober.look()
        found, others, tokens = results(world, ids), results(world, shown), results(world, bought)
    assert {r["code"] for r in found} <= {"bad_config", "bad_request"}
    assert {r["code"] for r in others} <= {"bad_config", "bad_request", "credential_origin"}
    assert {r["code"] for r in tokens} <= {"bad_config", "oauth_failed"}
    assert "s3cret-canary" not in json.dumps([others, tokens])
    assert "hunter2" not in json.dumps(found)
    assert hits(canary) == 0


@pytest.mark.parametrize("kind", ["action", "bearer", "header", "query"])
def test_a_redirect_is_shown_and_not_followed(
    world: World, guarded: None, canary: socket.socket, kind: str
) -> None:
    """With a credential least of all."""
    answer = (
        f"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:{port_of(canary)}/\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    with closing(socket.create_server(("127.0.0.2", 0))) as redirecting:
        url = f"http://127.0.0.2:{port_of(redirecting)}/"
        meta = {"header": "x-key"} if kind == "header" else {"parameter": "key"} if kind == "query" else {}
        probe = (
            probe_of(world, url)
            if kind == "action"
            else write_credential_probe(world, url, kind=kind, **meta)
        )
        with probing(world, egress_allow="127.0.0.0/8") as (_, prober):
            prober.look()
            redirecting.settimeout(10)
            connection, _ = redirecting.accept()
            sent = connection.recv(10_000)
            connection.sendall(answer)
            (found,) = results(world, [probe])
            connection.close()
    assert (found["code"], found["address"]) == ("http_302", "127.0.0.2")
    assert (b"s3cret-canary" in sent) == (kind != "action")
    assert "s3cret-canary" not in json.dumps(found)
    assert hits(canary) == 0


@pytest.mark.parametrize("write", [probe_of, write_credential_probe])
def test_a_name_that_changes_its_answer_is_checked_each_time(
    world: World, guarded: None, canary: socket.socket, write: Callable[[World, str], UUID]
) -> None:
    """127.0.0.2 stands for a public address: it alone is allowed, and nobody listens there."""
    url = f"http://rebind.example:{port_of(canary)}/"
    with probing(world, environment="production", egress_allow="127.0.0.2/32") as (_, prober):
        first = write(world, url)
        prober.look()
        (one,) = results(world, [first])
        second = write(world, url)
        prober.look()
        (other,) = results(world, [second])
    assert (one["code"], one["address"]) == ("connect_failed", "127.0.0.2")
    assert (other["code"], other["address"]) == ("blocked_address", "127.0.0.1")
    assert hits(canary) == 0


def test_the_canary_would_see_a_hit(canary: socket.socket) -> None:
    """Without it the others would show nothing."""
    with socket.create_connection(("127.0.0.1", port_of(canary))):
        assert eventually(lambda: hits(canary), 5, "a hit") == 1
