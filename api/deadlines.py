"""Time limits for many tasks at the price of one timer.

asyncio.timeout() starts a timer for each block, which a server does twice for each request. The
limits of one Deadlines are all equally long, so they run out in the order in which they began, and
only the earliest needs a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from types import TracebackType


class Deadlines:
    """Limits of so many seconds each, on one event loop; another loop's use begins anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: deque[Limit] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> Limit:
        """`async with` it: whatever is awaited in the block when the time is over is cancelled, and
        TimeoutError raised.
        """
        return Limit(self)

    def begin(self, limit: Limit) -> None:
        """The time of this limit runs from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._running, self._timer = loop, deque(), None
        while self._running and self._running[0].is_over:
            self._running.popleft()
        limit.ends_at = monotonic() + self._seconds
        self._running.append(limit)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._end)

    def _end(self) -> None:
        now = monotonic()
        while self._running and (self._running[0].is_over or self._running[0].ends_at <= now):
            self._running.popleft().expire()
        self._timer = None
        if self._running:
            rest = self._running[0].ends_at - now
            self._timer = asyncio.get_running_loop().call_later(rest, self._end)


class Limit:
    """The limit of one block.

    It tells its own cancelling from somebody else's as asyncio.timeout() does.
    """

    __slots__ = ("_before", "_deadlines", "_expired", "_task", "ends_at")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._task: asyncio.Task[object] | None = None
        self._expired = False
        self.ends_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether its block has been left."""
        return self._task is None

    def expire(self) -> None:
        """Cancel what the block awaits, unless it has been left."""
        if self._task is not None:
            self._expired = True
            self._task.cancel()

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._before = self._task.cancelling()
        self._deadlines.begin(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        if self._expired and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
