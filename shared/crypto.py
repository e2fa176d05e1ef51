"""Encryption of secrets at rest, and bearer tokens.

Secrets are encrypted with Fernet: the newest key encrypts, every listed key decrypts, so a key is
rotated by putting a new one in front (docs/keys.md). A sealed text names its key by an id: a
fingerprint, from which nobody learns the key. A plain secret exists only in memory.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import secrets as random

from cryptography.fernet import Fernet, InvalidToken

from shared.errors import ConfigError, Invalid

# What is remembered of decrypted secrets; a header may have 4,096 characters.
CACHE_ENTRIES = 10_000
CACHE_CHARS = 8 * 1024 * 1024

# A sealed text is this, the id of its key, a colon and the ciphertext.
SEALED = "sealed:"
KEY_ID_CHARS = 8


def key_id(key: str) -> str:
    """The fingerprint of an encryption key."""
    return hashlib.sha256(key.encode()).hexdigest()[:KEY_ID_CHARS]


class SecretBox:
    """Seals short secrets and opens them again.

    key_ids: of its keys, as they are listed; newest: of the one that seals. Remembers what it
    decrypted, since each delivery asks again.
    """

    def __init__(self, keys: str) -> None:
        listed = [key.strip() for key in keys.split(",")]
        try:
            self._by_id = {key_id(key): Fernet(key) for key in listed}
        except (ValueError, binascii.Error):
            raise ConfigError(
                "POINTSMAN_SECRET_KEYS holds something that is not a key.",
                hint="Make keys with `pointsman keys new`; put commas between them, the newest first.",
            ) from None
        self.key_ids = tuple(self._by_id)
        self.newest = self.key_ids[0]
        self._decrypted: dict[str, str] = {}
        self._remembered_chars = 0

    def encrypt(self, plain: str) -> str:
        """The secret as a sealed text."""
        return self.encrypt_with(self.newest, plain)

    def encrypt_with(self, key: str, plain: str) -> str:
        """The same under one of the listed keys, by its id."""
        return f"{SEALED}{key}:{self._by_id[key].encrypt(plain.encode()).decode()}"

    def decrypt(self, sealed: str, *, remember: bool = True) -> str:
        """Return the plain secret; raises Invalid when no key opens it.

        sealed: also a bare ciphertext, as earlier versions wrote it. remember: it is short and will
        be asked for again.
        """
        known = self._decrypted.get(sealed)
        if known is not None:
            return known
        found = self.open(sealed)
        if found is None:
            raise Invalid(
                "A stored secret cannot be decrypted with the keys of this installation.",
                code="secret_unreadable",
                hint="Set the secret again, or put the key that encrypted it back into POINTSMAN_SECRET_KEYS.",
            )
        _, plain = found
        if remember:
            self._remember(sealed, plain)
        return plain

    def open(self, sealed: str) -> tuple[str, str] | None:
        """The id of the key that opens a sealed text, and the plain one; None when no key does."""
        named, _, token = sealed.removeprefix(SEALED).rpartition(":")
        for key in (named,) if named else self.key_ids:
            opener = self._by_id.get(key)
            with contextlib.suppress(InvalidToken, ValueError):
                if opener is not None:
                    return key, opener.decrypt(token.encode()).decode()
        return None

    def _remember(self, sealed: str, plain: str) -> None:
        self._remembered_chars += len(sealed) + len(plain)
        if len(self._decrypted) >= CACHE_ENTRIES or self._remembered_chars > CACHE_CHARS:
            self._decrypted.clear()
            self._remembered_chars = len(sealed) + len(plain)
        self._decrypted[sealed] = plain


def is_sealed(text: str) -> bool:
    """Whether a text says that it is sealed."""
    return text.startswith(SEALED)


def sealed_by(text: str) -> str | None:
    """The id of the key that opens a sealed text, None if it does not say."""
    named, _, _ = text.removeprefix(SEALED).rpartition(":")
    return named if named and is_sealed(text) else None


def new_key() -> str:
    """A new encryption key for POINTSMAN_SECRET_KEYS."""
    return Fernet.generate_key().decode()


def new_token(prefix: str) -> str:
    """A bearer token with 256 random bits, told apart by its prefix."""
    return prefix + random.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a bearer token: its SHA-256, in hexadecimal (the token itself is random
    enough).
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
