"""Access tokens, in memory alone: how long each is used, and who fetches the next one.

Invariants:

- Of one key one fetch is under way at a time, however many wait for it.
- A token is fetched anew before it expires. Until then the old one is used, so that nobody waits.
- A token that was refused is dropped; a newer one is not dropped with it.
- A fetch that failed is not repeated for FAILED_SECONDS: a token server that is down or says no is
  not asked once for each delivery.
- At most MAX_TOKENS are kept.

It does no I/O and knows no protocol: what fetches is passed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, NamedTuple

MAX_TOKENS = 1_000

# A token is fetched anew when a fifth of its life is left, or half a minute, whichever is less.
LEFT_SHARE = 0.2
LEFT_SECONDS = 30.0

# Long enough for the deliveries of one moment, short enough for somebody who mends it.
FAILED_SECONDS = 1.0


class Token(NamedTuple):
    """A token, and for how long it is good from when it was asked for. It never shows itself."""

    value: str
    life_seconds: float

    def __repr__(self) -> str:
        return f"Token(life_seconds={self.life_seconds})"


class NoToken(Exception):
    """No token could be had.

    message: for the credential's owner, without a secret. retryable: whether asking again could
    help. retry_after_seconds: what the token server asks for.
    """

    def __init__(self, message: str, *, retryable: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


Fetch = Callable[[], Coroutine[Any, Any, Token]]
"""Asks for a token; bounded in time, raises NoToken and nothing else."""


class _Kept(NamedTuple):
    """A token, from when on another one is fetched, and from when on it is not used any more."""

    token: Token
    renewed_at: float
    expires_at: float


class Tokens:
    """Tokens by their keys. Lives in one event loop. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Hashable, _Kept] = {}
        self._failed: dict[Hashable, tuple[float, NoToken]] = {}
        self._fetching: dict[Hashable, asyncio.Task[Token]] = {}

    async def get(self, key: Hashable, fetch: Fetch) -> Token:
        """The token of a key, fetched if there is none; raises NoToken."""
        kept, now = self._kept.get(key), self._clock()
        if kept is not None and now < kept.renewed_at:
            return kept.token
        task = self._fetching.get(key)
        until, error = self._failed.get(key, (now, None))
        if task is None and until <= now:
            task = self._start(key, fetch)
        if kept is not None and now < kept.expires_at:
            return kept.token
        if task is None:
            assert error is not None
            raise error
        try:
            return await asyncio.shield(task)  # others wait for it, too
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            raise NoToken("The worker stopped before it had a token.", retryable=True) from None

    def drop(self, key: Hashable, token: Token) -> None:
        """Use this token no more, since it was refused. Another one that came meanwhile stays."""
        kept = self._kept.get(key)
        if kept is not None and kept.token == token:
            del self._kept[key]

    def close(self) -> None:
        """Let nobody wait any longer, and forget everything."""
        for task in self._fetching.values():
            task.cancel()
        self._kept.clear()

    def _start(self, key: Hashable, fetch: Fetch) -> asyncio.Task[Token]:
        task = self._fetching[key] = asyncio.create_task(fetch())
        task.add_done_callback(partial(self._ended, key, self._clock()))
        return task

    def _ended(self, key: Hashable, asked_at: float, task: asyncio.Task[Token]) -> None:
        del self._fetching[key]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            token = task.result()
            expires_at = asked_at + token.life_seconds
            left = min(LEFT_SHARE * token.life_seconds, LEFT_SECONDS)
            _put(self._kept, key, _Kept(token, expires_at - left, expires_at))
        elif isinstance(error, NoToken):
            _put(self._failed, key, (self._clock() + FAILED_SECONDS, error))


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is None or current.cancelling() > 0


def _put(entries: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    """Keep it, and forget the oldest beyond the bound."""
    entries.pop(key, None)
    entries[key] = value
    if len(entries) > MAX_TOKENS:
        del entries[next(iter(entries))]
