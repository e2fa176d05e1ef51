"""The signatures of deliveries, by Standard Webhooks 1.0.0: `v1` is HMAC-SHA256, `v1a` is ed25519.

Invariants:

- A secret says by its prefix what it is: `whsec_` is shared with the receiver and signs `v1`,
  `whsk_` is an ed25519 private key, which nobody is shown, and signs `v1a`. `whpk_` is the public
  key of that. Behind the prefix stands base64.
- What is signed is `id.timestamp.body`, the body byte for byte.
- A secret is parsed once, not at each attempt.

Of a private key the 32 bytes of its seed are written, as the specification's own library for Go
reads them. The 64 bytes of seed and public key are read too.
"""

from __future__ import annotations

import base64
import hmac
import secrets as random
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Scheme = Literal["v1", "v1a"]

SECRET = "whsec_"  # noqa: S105 - a prefix, no secret
PRIVATE_KEY = "whsk_"
PUBLIC_KEY = "whpk_"

# The specification asks for 24 to 64.
SECRET_BYTES = 32

SEED_BYTES = 32

# So many parsed secrets are kept; a busy installation signs with a few hundred.
MAX_KEPT_KEYS = 1_024

SigningKey = bytes | Ed25519PrivateKey
"""A parsed secret."""


def new_signing_secret(scheme: Scheme = "v1") -> str:
    """A new secret of this scheme."""
    if scheme == "v1":
        return SECRET + _base64(random.token_bytes(SECRET_BYTES))
    return PRIVATE_KEY + _base64(random.token_bytes(SEED_BYTES))


def scheme_of(secret: str) -> Scheme:
    """The scheme that a secret signs by. One without a prefix is symmetric."""
    return "v1a" if secret.startswith(PRIVATE_KEY) else "v1"


@lru_cache(MAX_KEPT_KEYS)
def signing_key(secret: str) -> SigningKey:
    """The key in a secret; raises ValueError for what is none."""
    if scheme_of(secret) == "v1":
        if key := base64.b64decode(secret.removeprefix(SECRET)):
            return key
        raise ValueError("an empty secret proves nothing")
    pair = base64.b64decode(secret.removeprefix(PRIVATE_KEY))
    private = Ed25519PrivateKey.from_private_bytes(pair[:SEED_BYTES])
    if pair[SEED_BYTES:] not in (b"", private.public_key().public_bytes_raw()):
        raise ValueError("behind the seed of a private key stands another public key")
    return private


def public_key(secret: str) -> str:
    """What a receiver verifies a private key's signatures with: `whpk_` and 32 bytes in base64.

    Raises ValueError for a secret that has no public part.
    """
    key = signing_key(secret)
    if isinstance(key, bytes):
        raise ValueError("a symmetric secret has no public key")
    return PUBLIC_KEY + _base64(key.public_key().public_bytes_raw())


def sign(keys: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each key, in their order.

    timestamp: unix seconds of the attempt.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return " ".join([_signature(key, signed) for key in keys])


def _signature(key: SigningKey, signed: bytes) -> str:
    if isinstance(key, bytes):
        return "v1," + _base64(hmac.digest(key, signed, "sha256"))
    return "v1a," + _base64(key.sign(signed))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
