"""One event loop in a thread of its own, for tests that submit from their thread and wait there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Later(Generic[Result]):
    """What a coroutine or future on the loop will have been."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]) -> None:
        self._loop = loop
        self._future = future
        self._seen = asyncio.run_coroutine_threadsafe(_seen(future), loop)

    def result(self, seconds: float) -> Result:
        self._seen.result(seconds)
        return self._future.result()

    def exception(self, seconds: float) -> BaseException | None:
        self._seen.result(seconds)
        return self._future.exception()

    def done(self) -> bool:
        return self._future.done()

    def cancel(self) -> bool:
        """Give it up, as a coroutine whose time is over does. It is given up when this returns."""

        async def give_up() -> bool:
            return self._future.cancel()

        return asyncio.run_coroutine_threadsafe(give_up(), self._loop).result(5)


async def _seen(future: asyncio.Future[Any]) -> None:
    await asyncio.wait({future})
    if not future.cancelled():
        future.exception()  # else the loop says that nobody looked at it


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="test-loop", daemon=True).start()
    return loop


def later(do: Callable[..., Awaitable[Result]], *args: Any) -> Later[Result]:
    """Call do(*args) on the loop.

    What it raises instead of returning something to await is raised here.
    """

    async def begin() -> asyncio.Future[Result]:
        return asyncio.ensure_future(do(*args))

    return Later(_loop(), asyncio.run_coroutine_threadsafe(begin(), _loop()).result(5))
