"""Callers of the management API that wait for the end of what they have begun, without a thread for
each.

A view answers what is there so far. If that is not done, its caller may wait for more. Its
coroutine looks again when a worker tells through Redis that it is done, and once a second, so that
Redis is only ever a matter of speed.

Invariant: the number of callers who wait is bounded. Beyond it nobody waits: the answer is at once
what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog

from api.caller import Caller
from api.threads import Threads

MAX_SECONDS = 30.0
LOOK_SECONDS = 1.0

# Then the look counts as failed: PostgreSQL is away, and who waits goes on waiting.
LOOK_TIMEOUT_SECONDS = 5.0
MAX_WAITERS = 200

log = structlog.get_logger("endings")


class Lasting(Protocol):
    """What is shown of something that takes its time."""

    @property
    def id(self) -> UUID: ...

    @property
    def is_done(self) -> bool: ...


Thing = TypeVar("Thing", bound=Lasting)


class Endings:
    """Who waits in one process. One thread looks for all of them."""

    def __init__(self, max_waiters: int = MAX_WAITERS) -> None:
        self._threads = Threads("endings", 1, max_waiters)
        self._max_waiters = max_waiters
        self._waiting: dict[UUID, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._is_stopping = False

    def settled(self, ids: Iterable[UUID]) -> None:
        """A worker tells that these are done. Called by another thread."""
        for one in ids:
            if (found := self._waiting.get(one)) is not None:
                loop, event = found
                loop.call_soon_threadsafe(event.set)

    async def wait(
        self,
        first: Thing,
        look: Callable[[], Thing],
        caller: Caller | None = None,
        seconds: float = MAX_SECONDS,
    ) -> Thing:
        """What is there at the end, or when the time is over or the caller has gone.

        first: what there is now. look: what there is then; it waits for PostgreSQL.
        """
        if len(self._waiting) >= self._max_waiters or self._is_stopping or first.is_done:
            return first
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        self._waiting[first.id] = (loop, event)
        gone = None if caller is None else asyncio.ensure_future(caller.gone())
        deadline, shown = loop.time() + seconds, first
        try:
            while not shown.is_done and not self._is_stopping and (left := deadline - loop.time()) > 0:
                if await _first_of(event, gone, min(left, LOOK_SECONDS)):
                    break
                event.clear()
                shown = await self._look(look, shown)
        finally:
            del self._waiting[first.id]
            if gone is not None:
                gone.cancel()
        return shown

    async def _look(self, look: Callable[[], Thing], known: Thing) -> Thing:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                return await self._threads.call(look)
        except Exception as error:  # noqa: BLE001 - it was begun, whatever this is: who waits looks again
            log.warning("ending_not_read", id=str(known.id), error=type(error).__name__)
            return known

    def stop(self) -> None:
        """Let everybody go, with what is there."""
        self._is_stopping = True
        self.settled(list(self._waiting))
        self._threads.stop()


async def _first_of(event: asyncio.Event, gone: asyncio.Future[None] | None, seconds: float) -> bool:
    """Wait so long, or until the event, or until the caller has gone: then True."""
    told = asyncio.ensure_future(event.wait())
    awaited: set[asyncio.Future[Any]] = {told} if gone is None else {told, gone}
    try:
        await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
    return gone is not None and gone.done()
