"""Encryption at rest, and bearer tokens."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from shared import crypto
from shared.crypto import SecretBox, is_sealed, key_id, new_key, new_token, sealed_by, token_hash
from shared.errors import ConfigError, Invalid


def test_a_sealed_text_says_which_key_opens_it() -> None:
    key = new_key()
    assert sealed_by(SecretBox(key).encrypt("hidden")) == key_id(key)
    for text in ("gAAAAABm", "plain:text", "sealed:", ""):
        assert sealed_by(text) is None


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


@given(st.text())
def test_what_was_encrypted_with_any_listed_key_is_read_and_the_newest_encrypts(plain: str) -> None:
    oldest, old, new = new_key(), new_key(), new_key()
    tokens = [SecretBox(key).encrypt(plain) for key in (oldest, old, new)]
    rotated = SecretBox(f" {new} , {old},{oldest}")
    assert [rotated.decrypt(token) for token in tokens] == [plain] * 3
    assert SecretBox(new).decrypt(rotated.encrypt(plain)) == plain


def test_an_error_about_keys_shows_no_key() -> None:
    good = new_key()
    with pytest.raises(ConfigError) as error:
        SecretBox(f"{good},canary")
    shown = error.value.message + error.value.hint
    assert "canary" not in shown
    assert good not in shown


def test_a_token_that_was_tampered_with_is_unreadable() -> None:
    box = SecretBox(new_key())
    token = box.encrypt("hidden")
    assert box.decrypt(token) == "hidden"
    middle = len(token) // 2
    flipped = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    with pytest.raises(Invalid) as error:
        box.decrypt(flipped)
    assert error.value.code == "secret_unreadable"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "CACHE_ENTRIES", 3)
    box = SecretBox(new_key())
    tokens = [box.encrypt(str(number)) for number in range(10)]
    for _ in range(2):
        assert [box.decrypt(token) for token in tokens] == [str(number) for number in range(10)]
        assert len(box._decrypted) <= 3


def test_what_is_remembered_is_bounded_in_characters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "CACHE_CHARS", 5_000)
    box = SecretBox(new_key())
    tokens = [box.encrypt(str(number) * 500) for number in range(10)]
    for _ in range(2):
        assert [box.decrypt(token) for token in tokens] == [str(number) * 500 for number in range(10)]
        assert sum(len(sealed) + len(plain) for sealed, plain in box._decrypted.items()) <= 5_000
        assert box._decrypted


def test_a_sealed_text_names_the_key_that_opens_it() -> None:
    old, new, strange = new_key(), new_key(), new_key()
    sealed = SecretBox(old).encrypt("hidden")
    assert sealed.startswith(f"sealed:{key_id(old)}:")
    assert is_sealed(sealed)
    rotated = SecretBox(f"{new},{old}")
    assert rotated.decrypt(sealed) == "hidden"
    assert rotated.encrypt("hidden").startswith(f"sealed:{key_id(new)}:")
    for other in (new, strange):
        renamed = sealed.replace(key_id(old), key_id(other))
        with pytest.raises(Invalid):
            rotated.decrypt(renamed)


def test_a_bare_ciphertext_of_an_earlier_version_is_opened() -> None:
    old, new = new_key(), new_key()
    token = Fernet(old.encode()).encrypt(b"hidden").decode()
    assert not is_sealed(token)
    assert SecretBox(f"{new},{old}").decrypt(token) == "hidden"


@given(st.text())
def test_the_hash_of_a_token_is_its_sha256_whatever_characters_it_has(token: str) -> None:
    assert token_hash(token) == hashlib.sha256(token.encode()).hexdigest()


@pytest.mark.parametrize("token", ["caf\u00e9", "\U0001f511", "\ud800", ""])
def test_a_token_that_nobody_was_given_has_a_hash_too(token: str) -> None:
    """Fails when a caller's odd bytes raise where 401 is due."""
    assert len(token_hash(token)) == 64


def test_who_opens_a_text_learns_which_key_it_was() -> None:
    old, new = new_key(), new_key()
    box = SecretBox(f"{new},{old}")
    assert box.key_ids == (key_id(new), key_id(old))
    assert box.newest == key_id(new)
    for key in (old, new):
        assert box.open(SecretBox(key).encrypt("hidden")) == (key_id(key), "hidden")
        assert box.open(Fernet(key.encode()).encrypt(b"hidden").decode()) == (key_id(key), "hidden")
        assert box.open(box.encrypt_with(key_id(key), "hidden")) == (key_id(key), "hidden")
    assert box.open(SecretBox(new_key()).encrypt("hidden")) is None
