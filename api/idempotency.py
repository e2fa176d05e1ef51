"""The header `Idempotency-Key`: what may be one."""

from __future__ import annotations

from shared.errors import Conflict, Refused

MAX_KEY_CHARS = 255
REPLAYED = ("idempotent-replayed", "true")
"""The header of an answer that was given before."""


def check_key(sent: str) -> str:
    """Return a key that can be used; raises Refused."""
    if not (0 < len(sent) <= MAX_KEY_CHARS and sent.isprintable()):
        raise Refused(
            "The Idempotency-Key is empty, too long or holds characters that cannot be shown.",
            code="bad_idempotency_key",
            hint=f"Send 1 to {MAX_KEY_CHARS} printable characters, a UUID for instance.",
        )
    return sent


def key_reused() -> Conflict:
    """The error for a key that comes with another request."""
    return Conflict(
        "This Idempotency-Key was used for another request.",
        code="idempotency_key_reused",
        hint="Send a new key with each new request, and the same key only with the very same request.",
    )
