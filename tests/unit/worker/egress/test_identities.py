"""What a client shows of itself in TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import Authority, private_pem
from worker.egress import identities as module
from worker.egress.errors import EgressError
from worker.egress.identities import Identities, make_context
from worker.egress.messages import ClientIdentity

OURS, OTHERS = Authority("ours"), Authority("others")
CLIENT = OURS.sign("client")


def identity(name: str = "one", **changes: Any) -> ClientIdentity:
    made = ClientIdentity(name, CLIENT.certificate, CLIENT.key, OTHERS.certificate)
    return made._replace(**changes)


@pytest.fixture
def without_memory_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system on which a file cannot be held in memory; the folder of its temporary files."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_server_is_checked_against_the_identitys_own_authority_alone() -> None:
    context = make_context(identity())
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "others"),),)


def test_without_one_the_usual_authorities_are_asked() -> None:
    usual = ssl.create_default_context().cert_store_stats()
    context = make_context(identity(ca=None))
    assert context.cert_store_stats() == usual
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_no_key_stands_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asked: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def noting(context: ssl.SSLContext, path: str, **more: Any) -> None:
        asked.append(str(Path(path).readlink()))
        load(context, path, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noting)
    make_context(identity())
    assert asked[0].startswith("/memfd:")
    assert list(tmp_path.iterdir()) == []


def test_where_it_must_nobody_else_can_read_it_and_it_is_gone_at_once(
    monkeypatch: pytest.MonkeyPatch, without_memory_files: Path
) -> None:
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def noting(context: ssl.SSLContext, path: str, **more: Any) -> None:
        assert Path(path).parent == without_memory_files
        modes.append(Path(path).stat().st_mode & 0o777)
        load(context, path, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noting)
    make_context(identity())
    with pytest.raises(ssl.SSLError):
        make_context(identity(private_key="none"))
    assert modes == [0o600, 0o600]
    assert list(without_memory_files.iterdir()) == []


def told(story: Callable[[Identities], Any]) -> None:
    async def tell() -> None:
        await asyncio.wait_for(story(Identities()), 10)

    asyncio.run(tell())


def test_each_identity_has_one_context_of_its_own() -> None:
    """Fails when two share one: connections are kept by their context."""

    async def story(identities: Identities) -> None:
        mine = await asyncio.gather(*(identities.context(identity("mine")) for _ in range(5)))
        theirs = await identities.context(identity("theirs"))
        assert len({id(context) for context in mine}) == 1
        assert mine[0] is not theirs
        assert await identities.context(identity("mine")) is mine[0]

    told(story)


def test_what_was_not_used_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDENTITIES", 2)

    async def story(identities: Identities) -> None:
        a, b = [await identities.context(identity(name)) for name in "ab"]
        assert await identities.context(identity("a")) is a
        await identities.context(identity("c"))
        assert await identities.context(identity("a")) is a
        assert await identities.context(identity("b")) is not b

    told(story)


@pytest.mark.parametrize(
    "changes",
    [
        {"private_key": OURS.sign("another").key},
        {"private_key": "canary"},
        {"private_key": private_pem(ec.generate_private_key(ec.SECP256R1()), b"canary")},
        {"certificate": "canary"},
        {"ca": "canary"},
    ],
)
def test_what_cannot_be_used_is_said_without_repeating_it(changes: dict[str, Any]) -> None:
    async def story(identities: Identities) -> None:
        for _ in range(2):
            with pytest.raises(EgressError) as error:
                await identities.context(identity(**changes))
            assert (error.value.code, error.value.permanent) == ("bad_request", True)
            assert "canary" not in error.value.message
        assert await identities.context(identity())

    told(story)


def test_an_identity_never_shows_its_key() -> None:
    shown = repr(identity(private_key="canary"))
    assert shown == str(identity(private_key="canary")) == "ClientIdentity(name='one')"
