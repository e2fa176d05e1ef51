"""Passwords: bcrypt over SHA-256.

bcrypt 5 refuses more than 72 bytes, so the password is hashed to 44 characters first. An unknown
e-mail costs as much time as a wrong password.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import bcrypt

ROUNDS = 12


@cache
def _nobody() -> str:
    """The hash that an unknown e-mail is compared with."""
    return bcrypt.hashpw(b"nobody has this password", bcrypt.gensalt(ROUNDS)).decode()


def _digest(password: str) -> bytes:
    return base64.b64encode(hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest())


def hash_password(password: str) -> str:
    """What is stored of a password."""
    return bcrypt.hashpw(_digest(password), bcrypt.gensalt(ROUNDS)).decode()


def matches(password: str, stored: str | None) -> bool:
    """Whether this is the password; None (no such user) takes as long and is False."""
    right = bcrypt.checkpw(_digest(password), (stored or _nobody()).encode())
    return right and stored is not None
