"""Access tokens, in memory alone: how long each is used, and who fetches the next one.

Invariants:

- Of one key one fetch is under way at a time, however many wait for it.
- A token is fetched anew before it expires. Until then the old one is used, so that nobody waits.
- A token that was refused is dropped; a newer one is not dropped with it. Of one key none is
  dropped within REFUSED_SECONDS of another, so that a receiver that takes none costs no token for
  each delivery.
- A fetch that failed is not repeated for FAILED_SECONDS, or for as long as the token server asks
  for: one that is down or says no is not asked once for each delivery.
- At most MAX_UNAWAITED fetches are under way that nobody waits for: no attempt's place is theirs.
- At most MAX_TOKENS are kept, and nothing of whoever asks: why there is none is a value, since an
  exception would hold the frames through which it was raised, and what they hold.

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

# Of what a token server asks for in Retry-After.
MAX_FAILED_SECONDS = 60.0

# Shorter than the schedule's first delay: who is refused twice has another token the third time.
REFUSED_SECONDS = 5.0

# They renew what is still good, or those who waited have no time left.
MAX_UNAWAITED = 32


class Token(NamedTuple):
    """A token, and for how long it is good from when it was asked for. It never shows itself."""

    value: str
    life_seconds: float

    def __repr__(self) -> str:
        return f"Token(life_seconds={self.life_seconds})"


class NoToken(NamedTuple):
    """Why no token could be had.

    message: for the credential's owner, without a secret. retryable: whether asking again could
    help. retry_after_seconds: what the token server asks for.
    """

    message: str
    retryable: bool
    retry_after_seconds: float | None = None


Fetch = Callable[[], Coroutine[Any, Any, Token | NoToken]]
"""Asks for a token; bounded in time."""

STOPPED = NoToken("The worker stopped before it had a token.", retryable=True)


class _Kept(NamedTuple):
    """A token, from when on another one is fetched, and from when on it is not used any more."""

    token: Token
    renewed_at: float
    expires_at: float


class _Failed(NamedTuple):
    """Why there is no token, since when, and from when on another one is fetched."""

    end: NoToken
    since: float
    until: float


class _Fetching:
    """A fetch under way, and how many wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Token | NoToken]) -> None:
        self.task = task
        self.waiting = 0


class Tokens:
    """Tokens by their keys. Lives in one event loop. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Hashable, _Kept] = {}
        self._failed: dict[Hashable, _Failed] = {}
        self._dropped_at: dict[Hashable, float] = {}
        self._fetching: dict[Hashable, _Fetching] = {}

    async def get(self, key: Hashable, fetch: Fetch) -> Token | NoToken:
        """The token of a key, fetched if there is none."""
        kept, now = self._kept.get(key), self._clock()
        if kept is not None and now < kept.renewed_at:
            return kept.token
        good = kept.token if kept is not None and now < kept.expires_at else None
        fetching, end = self._fetching.get(key), self._failure(key, now)
        if fetching is None and end is None and (good is None or self._unawaited() < MAX_UNAWAITED):
            fetching = self._start(key, fetch)
        if good is not None:
            return good
        if fetching is not None:
            return await self._wait(key, fetching)
        assert end is not None
        return end

    def drop(self, key: Hashable, token: Token) -> bool:
        """Use this token no more, since it was refused. Another one that came meanwhile stays.

        Returns whether the next attempt gets another one.
        """
        kept, now = self._kept.get(key), self._clock()
        if kept is None or kept.token != token:
            return True
        dropped_at = self._dropped_at.get(key)
        if dropped_at is not None and now < dropped_at + REFUSED_SECONDS:
            return False
        del self._kept[key]
        _put(self._dropped_at, key, now)
        return True

    def close(self) -> None:
        """Let nobody wait any longer, and forget everything."""
        for fetching in self._fetching.values():
            fetching.task.cancel()
        for entries in (self._kept, self._failed, self._dropped_at):
            entries.clear()

    def _failure(self, key: Hashable, now: float) -> NoToken | None:
        """Why there was no token a moment ago, with what is left of the time that was asked for."""
        failed = self._failed.get(key)
        if failed is None or now >= failed.until:
            return None
        asked = failed.end.retry_after_seconds
        left = None if asked is None else max(asked - (now - failed.since), 0.0)
        return failed.end._replace(retry_after_seconds=left)

    def _unawaited(self) -> int:
        return sum(not fetching.waiting for fetching in self._fetching.values())

    def _start(self, key: Hashable, fetch: Fetch) -> _Fetching:
        fetching = self._fetching[key] = _Fetching(asyncio.create_task(fetch()))
        fetching.task.add_done_callback(partial(self._ended, key, self._clock()))
        return fetching

    async def _wait(self, key: Hashable, fetching: _Fetching) -> Token | NoToken:
        fetching.waiting += 1
        try:
            return await asyncio.shield(fetching.task)  # others wait for it, too
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            return STOPPED
        finally:
            fetching.waiting -= 1
            if not fetching.waiting and self._unawaited() > MAX_UNAWAITED:
                self._give_up(key, fetching)

    def _give_up(self, key: Hashable, fetching: _Fetching) -> None:
        """End a fetch that nobody waits for any more: too many go on for those who come later."""
        if fetching.task.cancel() and self._fetching.get(key) is fetching:
            del self._fetching[key]

    def _ended(self, key: Hashable, asked_at: float, task: asyncio.Task[Token | NoToken]) -> None:
        fetching = self._fetching.get(key)
        if fetching is not None and fetching.task is task:
            del self._fetching[key]
        if task.cancelled() or task.exception() is not None:  # whoever waits hears of it
            return
        end, now = task.result(), self._clock()
        if isinstance(end, NoToken):
            hold = max(end.retry_after_seconds or 0.0, FAILED_SECONDS)
            _put(self._failed, key, _Failed(end, now, now + min(hold, MAX_FAILED_SECONDS)))
            return
        expires_at = asked_at + end.life_seconds
        left = min(LEFT_SHARE * end.life_seconds, LEFT_SECONDS)
        _put(self._kept, key, _Kept(end, expires_at - left, expires_at))


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is None or current.cancelling() > 0


def _put(entries: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    """Keep it, and forget the oldest beyond the bound."""
    entries.pop(key, None)
    entries[key] = value
    if len(entries) > MAX_TOKENS:
        del entries[next(iter(entries))]
