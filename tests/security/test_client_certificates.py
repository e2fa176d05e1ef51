"""Servers that ask in TLS who is calling: each request shows its own identity and no other's."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Iterator

import pytest

from tests.certificates import Authority, Signed, server_context
from tests.peers.hostile_http import run, until
from tests.peers.receiver import Receiver
from tests.security.test_egress_hostile import both_loops, connections, failure, post, started
from worker.egress import identities
from worker.egress.addresses import AddressGuard
from worker.egress.http import Egress
from worker.egress.messages import ClientIdentity, HttpRequest

OURS, OTHERS = Authority("ours"), Authority("others")
SERVER = server_context(OURS.sign("server", "127.0.0.1"), trusted=OURS)


@pytest.fixture
def strict() -> Iterator[Receiver]:
    """A server of our authority that speaks only to clients of it."""
    with Receiver(tls=SERVER) as receiver:
        yield receiver


@pytest.fixture
def curious() -> Iterator[Receiver]:
    """One that asks who is calling, and speaks to everybody."""
    context = server_context(OURS.sign("server", "127.0.0.1"), trusted=OURS)
    context.verify_mode = ssl.CERT_OPTIONAL
    with Receiver(tls=context) as receiver:
        yield receiver


def trusting(authority: Authority) -> ssl.SSLContext:
    """Of a door without identities."""
    return ssl.create_default_context(cadata=authority.certificate)


def identity(name: str, signed: Signed | None = None, ca: Authority | None = OURS) -> ClientIdentity:
    made = signed or OURS.sign(name)
    return ClientIdentity(name, made.certificate, made.key, None if ca is None else ca.certificate)


def to(receiver: Receiver, who: ClientIdentity | None) -> HttpRequest:
    return post(receiver.url("/ok"), identity=who)


@both_loops
def test_a_server_that_demands_a_certificate_gets_it(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        mine = identity("mine")
        async with started() as egress:
            for _ in range(3):
                assert (await egress.request(to(strict, mine))).status == 200
        assert [receipt.client for receipt in strict.receipts] == ["mine"] * 3
        assert {receipt.connection for receipt in strict.receipts} == {1}, "its connection is kept"

    run(loop, case())


@both_loops
def test_two_identities_at_one_server_never_share_a_connection(loop: str, strict: Receiver) -> None:
    """Fails when a kept connection is found by host and port alone."""

    async def case() -> None:
        mine, theirs = identity("mine"), identity("theirs")
        async with started() as egress:
            for who in (mine, theirs, mine, theirs):
                assert (await egress.request(to(strict, who))).status == 200
            assert connections(egress) == 2
        assert [receipt.client for receipt in strict.receipts] == ["mine", "theirs", "mine", "theirs"]
        of = {receipt.connection: receipt.client for receipt in strict.receipts}
        assert sorted(of.values(), key=str) == ["mine", "theirs"]

    run(loop, case())


@both_loops
def test_who_shows_nothing_gets_no_connection_of_somebody_who_did(loop: str, curious: Receiver) -> None:
    async def case() -> None:
        mine = identity("mine")
        async with started(ssl_context=trusting(OURS)) as egress:
            for who in (mine, None, mine, None):
                assert (await egress.request(to(curious, who))).status == 200
        assert [receipt.client for receipt in curious.receipts] == ["mine", None, "mine", None]

    run(loop, case())


@both_loops
def test_a_new_version_of_an_identity_makes_a_connection_of_its_own(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        async with started() as egress:
            for number in (1, 2):
                who = identity(f"version {number}")
                assert (await egress.request(to(strict, who))).status == 200
        assert [receipt.client for receipt in strict.receipts] == ["version 1", "version 2"]

    run(loop, case())


def test_nothing_is_kept_of_identities_that_are_shown_no_more(
    strict: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when something holds a context whose identity was forgotten: each is large, and who
    changes a credential again and again would fill a worker. (asyncio's own loop holds a
    connection somewhat longer; workers have uvloop.)
    """
    monkeypatch.setattr(identities, "MAX_IDENTITIES", 2)

    async def case() -> None:
        contexts: list[weakref.ref[ssl.SSLContext]] = []
        async with started() as egress:
            for number in range(6):
                who = identity(f"version {number}")
                assert (await egress.request(to(strict, who))).status == 200
                contexts.append(weakref.ref(await egress._identities.context(who)))

            def kept() -> list[bool]:
                gc.collect()
                return [one() is not None for one in contexts]

            # the timer of aiohttp's clean-up was set in the first request, and holds that one
            assert await until(lambda: kept()[1:] == [False] * 3 + [True] * 2, 5), kept()
            assert connections(egress) == 2

    run("uvloop", case())


@both_loops
def test_who_shows_nothing_or_somebody_elses_is_refused_by_the_server(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        foreign = identity("foreign", OTHERS.sign("foreign"))
        async with started(ssl_context=trusting(OURS)) as egress:
            assert (await egress.request(to(strict, identity("mine")))).status == 200
            for who in (None, foreign):
                error = await failure(egress, to(strict, who))
                assert error.code in ("tls_failed", "connection_closed")
                assert not error.permanent
        assert [receipt.client for receipt in strict.receipts] == ["mine"]

    run(loop, case())


@both_loops
def test_an_identitys_authority_is_trusted_by_its_own_requests_alone(loop: str, curious: Receiver) -> None:
    """Fails when an authority that one tenant names is trusted by another's requests, or when the
    usual ones are trusted beside it.
    """

    async def case() -> None:
        async with started() as egress:
            assert (await egress.request(to(curious, identity("mine")))).status == 200
            for who in (None, identity("usual", ca=None), identity("other", ca=OTHERS)):
                assert (await failure(egress, to(curious, who))).code == "tls_failed"
        async with started(ssl_context=trusting(OURS)) as egress:
            assert (await failure(egress, to(curious, identity("other", ca=OTHERS)))).code == "tls_failed"
        assert [receipt.client for receipt in curious.receipts] == ["mine"]

    run(loop, case())


@both_loops
def test_the_name_of_the_server_is_still_checked(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        async with started() as egress:
            request = post(f"https://localhost:{strict.port}/ok", identity=identity("mine"))
            assert (await failure(egress, request)).code == "tls_failed"
        assert strict.receipts == []

    run(loop, case())


@both_loops
def test_an_identity_opens_no_address_that_is_blocked(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        egress = Egress(guard=AddressGuard(), dns_threads=2, connection_limit=5)
        await egress.open()
        try:
            assert (await failure(egress, to(strict, identity("mine")))).code == "blocked_address"
        finally:
            await egress.close()
        assert strict.connections == 0

    run(loop, case())


@both_loops
def test_one_that_cannot_be_used_fails_its_own_requests_alone(loop: str, strict: Receiver) -> None:
    async def case() -> None:
        async with started() as egress:
            broken = identity("broken", Signed(OURS.sign("a").certificate, OURS.sign("b").key))
            error = await failure(egress, to(strict, broken))
            assert (error.code, error.permanent) == ("bad_request", True)
            assert "client certificate" in error.message
            assert (await egress.request(to(strict, identity("mine")))).status == 200

    run(loop, case())
