"""The signatures of deliveries, held against the libraries that receivers use."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from shared.signatures import (
    Scheme,
    SigningKey,
    new_signing_secret,
    public_key,
    scheme_of,
    sign,
    signing_key,
)

NOW = int(time.time())
SCHEMES: tuple[Scheme, ...] = ("v1", "v1a")

# Source: the tests of the Standard Webhooks libraries.
SEED = b"TESTSIGNINGKEYDONOTUSETHISFORANY"
KNOWN = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
KNOWN_V1A = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="


def headers_of(secrets: list[str], body: bytes, timestamp: int = NOW) -> dict[str, str]:
    signature = sign(list(map(signing_key, secrets)), "id-1", timestamp, body)
    return {"webhook-id": "id-1", "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def verify(secret: str, body: bytes, headers: dict[str, str]) -> None:
    """As a receiver does: by both libraries, or, where they know no ed25519, as the specification
    says.
    """
    if scheme_of(secret) == "v1a":
        verify_ed25519(public_key(secret), body, headers)
        return
    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)
    svix.webhooks.Webhook(secret).verify(body, headers)


def verify_ed25519(key: str, body: bytes, headers: dict[str, str]) -> None:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        scheme, _, encoded = signature.partition(",")
        if scheme == "v1a":
            try:
                public.verify(base64.b64decode(encoded), signed)
            except InvalidSignature:
                continue
            return
    raise InvalidSignature


REFUSED = (
    standardwebhooks.WebhookVerificationError,
    svix.webhooks.WebhookVerificationError,
    InvalidSignature,
)


@given(st.dictionaries(st.text(), st.integers()), st.lists(st.sampled_from(SCHEMES), min_size=1, max_size=4))
def test_each_of_several_secrets_verifies_and_a_strange_one_does_not(
    payload: dict[str, int], schemes: list[Scheme]
) -> None:
    """The signatures of other schemes beside it hinder no library."""
    secrets, body = list(map(new_signing_secret, schemes)), json.dumps(payload).encode()
    headers = headers_of(secrets, body)
    for secret in secrets:
        verify(secret, body, headers)
    for scheme in SCHEMES:
        with pytest.raises(REFUSED):
            verify(new_signing_secret(scheme), body, headers)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({"webhook-id": "id-2"}, b"{}"),
        ({"webhook-timestamp": str(NOW - 1)}, b"{}"),
        ({}, b"{} "),
    ],
)
def test_a_signature_covers_id_timestamp_and_body(
    scheme: Scheme, changed: dict[str, str], body: bytes
) -> None:
    secret = new_signing_secret(scheme)
    headers = headers_of([secret], b"{}")
    verify(secret, b"{}", headers)
    with pytest.raises(REFUSED):
        verify(secret, body, headers | changed)


@pytest.mark.parametrize("old", SCHEMES)
@pytest.mark.parametrize("new", SCHEMES)
def test_a_secret_that_left_the_rotation_verifies_no_more(old: Scheme, new: Scheme) -> None:
    before, after = new_signing_secret(old), new_signing_secret(new)
    verify(before, b"{}", headers_of([before], b"{}"))
    for secret in (before, after):
        verify(secret, b"{}", headers_of([after, before], b"{}"))
    verify(after, b"{}", headers_of([after], b"{}"))
    with pytest.raises(REFUSED):
        verify(before, b"{}", headers_of([after], b"{}"))


def test_the_newest_stands_first() -> None:
    secrets = [new_signing_secret(scheme) for scheme in ("v1a", "v1", "v1a")]
    signed = headers_of(secrets, b"{}")["webhook-signature"].split(" ")
    assert signed == [headers_of([one], b"{}")["webhook-signature"] for one in secrets]
    assert [one.partition(",")[0] for one in signed] == ["v1a", "v1", "v1a"]


def test_a_symmetric_signature_is_the_one_that_the_specification_defines() -> None:
    """Made by hand: HMAC-SHA256 over `id.timestamp.body`, the key decoded from base64."""
    key = bytes(range(24))
    expected = hmac.new(key, b"msg_1.1614265330." + b"\xff\x00", hashlib.sha256).digest()
    for secret in ("whsec_" + base64.b64encode(key).decode(), base64.b64encode(key).decode()):
        signed = sign([signing_key(secret)], "msg_1", 1614265330, b"\xff\x00")
        assert signed == "v1," + base64.b64encode(expected).decode()


def private_key(data: bytes) -> str:
    return "whsk_" + base64.b64encode(data).decode()


def test_an_ed25519_signature_is_the_one_that_others_make() -> None:
    """A private key is a seed, as the specification's library for Go reads it, or the pair of both
    keys.
    """
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    for secret in (private_key(SEED), private_key(SEED + public)):
        assert sign([signing_key(secret)], *KNOWN) == KNOWN_V1A
        assert public_key(secret) == "whpk_" + base64.b64encode(public).decode()


@pytest.mark.parametrize("body", [b"", b"\xff\x00", "caf\u00e9".encode(), b"a.b.c", b"x" * 1_000_000])
def test_any_bytes_are_signed_as_they_are(body: bytes) -> None:
    secret = new_signing_secret("v1a")
    verify_ed25519(public_key(secret), body, headers_of([secret], body))


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_abc",
        "whsec_caf\u00e9",
        "whsec_",
        "",
        "whsk_abc",
        "whsk_",
        private_key(SEED[:31]),
        private_key(SEED + b"\0"),
        private_key(SEED + SEED),
    ],
)
def test_what_is_no_key_is_a_value_error_that_does_not_repeat_it(secret: str) -> None:
    with pytest.raises(ValueError) as error:
        signing_key(secret)
    assert secret == "" or secret not in str(error.value)


@pytest.mark.parametrize(("scheme", "prefix"), [("v1", "whsec_"), ("v1a", "whsk_")])
def test_a_new_secret_is_random_and_says_what_it_is(scheme: Scheme, prefix: str) -> None:
    one, other = new_signing_secret(scheme), new_signing_secret(scheme)
    assert one != other
    assert one.startswith(prefix)
    assert scheme_of(one) == scheme
    assert len(base64.b64decode(one.removeprefix(prefix))) == 32


def test_a_symmetric_secret_has_no_public_key() -> None:
    with pytest.raises(ValueError):
        public_key(new_signing_secret())
    public = base64.b64decode(public_key(new_signing_secret("v1a")).removeprefix("whpk_"))
    assert len(public) == 32


def test_a_secret_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each attempt builds its key anew: of ed25519 that costs as much as signing."""
    built: list[bytes] = []

    class Counted:
        @staticmethod
        def from_private_bytes(data: bytes) -> Any:
            built.append(data)
            return Ed25519PrivateKey.from_private_bytes(data)

    monkeypatch.setattr("shared.signatures.Ed25519PrivateKey", Counted)
    secret = new_signing_secret("v1a")
    keys: list[SigningKey] = [signing_key(secret) for _ in range(5)]
    assert len(built) == 1
    assert all(key is keys[0] for key in keys)
