"""Threads for what blocks, bounded in how many wait for one.

Invariants:

- At most `max_waiting` calls are under way or wait.
- Beyond that the answer is Unavailable at once, since more would only get slower for everybody.

A call whose caller gave up before a thread was free is never made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from shared.errors import Unavailable

Result = TypeVar("Result")


class Threads:
    """A pool of threads for one kind of call."""

    def __init__(self, name: str, size: int, max_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._max_waiting = max_waiting
        self._waiting = 0

    def call(self, do: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
        """Do it in a thread; the future belongs to the running loop.

        Raises Unavailable when too many wait.
        """
        if self._waiting >= self._max_waiting:
            raise Unavailable("Too many requests are waiting in this process.")
        called = self._pool.submit(do, *args)
        self._waiting += 1
        future = asyncio.wrap_future(called)
        future.add_done_callback(self._one_less)
        return future

    def _one_less(self, _future: object) -> None:
        self._waiting -= 1

    def stop(self) -> None:
        """Let calls under way end; those that wait are never made."""
        self._pool.shutdown(wait=True, cancel_futures=True)
