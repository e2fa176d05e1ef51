"""Passwords: bcrypt over SHA-256.

bcrypt 5 refuses more than 72 bytes, so the password is hashed to 44 characters first. An unknown
e-mail costs as much time as a wrong password.

Invariants:

- A process hashes one password at a time, in a thread of its own, so that whoever guesses takes no
  more than one core, and what else wants it goes first.
- At most MAX_WAITING calls wait for that, half of the threads that management calls have by
  default; beyond it is Unavailable at once.
- Nobody waits with a connection to PostgreSQL in hand: the caller gives it back before.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import bcrypt

from api.threads import Threads
from shared.errors import Unavailable

Result = TypeVar("Result")

ROUNDS = 12
MAX_WAITING = 16

# Of a thread among those of its process, on Linux.
NICENESS = 10


@cache
def _threads() -> Threads:
    return Threads("passwords", 1, MAX_WAITING)


@cache
def _nobody() -> str:
    """The hash that an unknown e-mail is compared with."""
    return bcrypt.hashpw(b"nobody has this password", bcrypt.gensalt(ROUNDS)).decode()


def _digest(password: str) -> bytes:
    return base64.b64encode(hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest())


def stop() -> None:
    """Let the hash under way end; who waits for another hears Unavailable."""
    _threads().stop()
    _threads.cache_clear()


def hash_password(password: str) -> str:
    """What is stored of a password. Waits for its turn; raises Unavailable when too many wait."""
    return _in_turn(lambda: bcrypt.hashpw(_digest(password), bcrypt.gensalt(ROUNDS)).decode())


def matches(password: str, stored: str | None) -> bool:
    """Whether this is the password; None (no such user) takes as long and is False.

    Waits for its turn; raises Unavailable when too many wait.
    """
    is_right = _in_turn(lambda: bcrypt.checkpw(_digest(password), (stored or _nobody()).encode()))
    return is_right and stored is not None


def _in_turn(hash_it: Callable[[], Result]) -> Result:
    def give_way_and_hash() -> Result:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        return hash_it()

    try:
        hashed = _threads().submit(give_way_and_hash)
    except Unavailable:
        raise Unavailable(
            "Too many log-ins are under way.", code="too_many_logins", hint="Try again in a few seconds."
        ) from None
    return hashed.result()
