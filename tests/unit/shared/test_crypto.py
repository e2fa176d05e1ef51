"""Encryption at rest and the signature of outgoing webhooks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.crypto import SecretBox, new_key, new_signing_secret, new_token, sign, token_hash
from shared.errors import ConfigError, Invalid


@given(st.dictionaries(st.text(), st.integers()))
def test_the_standards_own_library_verifies_our_signature(payload: dict[str, int]) -> None:
    secret, other, now = new_signing_secret(), new_signing_secret(), int(datetime.now(UTC).timestamp())
    body = json.dumps(payload).encode()
    both = " ".join(sign(key, "id-1", now, body) for key in (other, secret))
    headers = {"webhook-id": "id-1", "webhook-timestamp": str(now), "webhook-signature": both}
    for key in (secret, other):
        assert Webhook(key).verify(body.decode(), headers) == payload
    with pytest.raises(WebhookVerificationError):
        Webhook(new_signing_secret()).verify(body.decode(), headers)


def test_a_signature_covers_id_timestamp_and_body() -> None:
    secret, now = new_signing_secret(), int(datetime.now(UTC).timestamp())
    good = sign(secret, "id-1", now, b'{"a": 1}')
    headers = {"webhook-id": "id-1", "webhook-timestamp": str(now), "webhook-signature": good}
    assert Webhook(secret).verify('{"a": 1}', headers) == {"a": 1}
    for changed in (sign(secret, "id-2", now, b'{"a": 1}'), sign(secret, "id-1", now - 1, b'{"a": 1}')):
        assert changed != good
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


def test_keys_rotate_by_putting_a_new_one_in_front() -> None:
    old, new = new_key(), new_key()
    token = SecretBox(old).encrypt("hidden")
    assert SecretBox(f"{new},{old}").decrypt(token) == "hidden"
    with pytest.raises(Invalid) as error:
        SecretBox(new).decrypt(token)
    assert error.value.code == "secret_unreadable"
    assert "hidden" not in token


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAA", "caf\u00e9"])
def test_what_is_no_ciphertext_is_invalid(token: str) -> None:
    with pytest.raises(Invalid):
        SecretBox(new_key()).decrypt(token)


@pytest.mark.parametrize("keys", ["short", "", ",", f"{'A' * 43}!", "A" * 43 + "=,short"])
def test_a_bad_key_stops_the_start(keys: str) -> None:
    with pytest.raises(ConfigError):
        SecretBox(keys)


def test_tokens_are_random_and_only_their_hash_is_kept() -> None:
    one, other = new_token("pm_live_"), new_token("pm_live_")
    assert one != other
    assert one.startswith("pm_live_")
    assert len(one) > 40
    assert token_hash(one) != token_hash(other)
    assert len(token_hash("\udcff")) == 64
