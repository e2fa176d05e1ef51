"""Encryption of secrets at rest, and the signature of outgoing webhooks.

Secrets are encrypted with MultiFernet: the newest key encrypts, every listed key decrypts, so a key
is rotated by putting a new one in front. A sealed text names its key by an id: a fingerprint, from
which nobody learns the key. A plain secret exists only in memory.
Source of the signature: the Standard Webhooks specification 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as random

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import ConfigError, Invalid

# The specification asks for 24 to 64.
SIGNING_SECRET_BYTES = 32

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

    Remembers what it decrypted, since each delivery asks again.
    """

    def __init__(self, keys: str) -> None:
        listed = [key.strip() for key in keys.split(",")]
        try:
            self._by_id = {key_id(key): Fernet(key) for key in listed}
            self._all = MultiFernet(list(self._by_id.values()))
        except (ValueError, binascii.Error):
            raise ConfigError(
                "POINTSMAN_SECRET_KEYS holds something that is not a key.",
                hint="Make keys with `pointsman keys new`; put commas between them, the newest first.",
            ) from None
        self._sealing = f"{SEALED}{key_id(listed[0])}:"
        self._decrypted: dict[str, str] = {}
        self._remembered_chars = 0

    def encrypt(self, plain: str) -> str:
        """The secret as a sealed text."""
        return self._sealing + self._all.encrypt(plain.encode()).decode()

    def decrypt(self, sealed: str, *, remember: bool = True) -> str:
        """Return the plain secret; raises Invalid when no key opens it.

        sealed: also a bare ciphertext, as earlier versions wrote it. remember: it is short and will
        be asked for again.
        """
        known = self._decrypted.get(sealed)
        if known is not None:
            return known
        named, _, token = sealed.removeprefix(SEALED).rpartition(":")
        opener = self._by_id.get(named) if named else self._all
        try:
            if opener is None:
                raise InvalidToken
            plain = opener.decrypt(token.encode()).decode()
        except (InvalidToken, ValueError):
            raise Invalid(
                "A stored secret cannot be decrypted with the keys of this installation.",
                code="secret_unreadable",
                hint="Set the secret again, or put the key that encrypted it back into POINTSMAN_SECRET_KEYS.",
            ) from None
        if remember:
            self._remember(sealed, plain)
        return plain

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


def new_signing_secret() -> str:
    """A new symmetric secret of Standard Webhooks: `whsec_` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(random.token_bytes(SIGNING_SECRET_BYTES)).decode()


def new_token(prefix: str) -> str:
    """A bearer token with 256 random bits, told apart by its prefix."""
    return prefix + random.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a bearer token: its SHA-256, in hexadecimal (the token itself is random
    enough).
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def signing_key(secret: str) -> bytes:
    """The key in a symmetric secret of Standard Webhooks; raises ValueError for what is none."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature` for one key.

    It is `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64. timestamp: unix seconds of the
    attempt.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
