"""Threads for what blocks, bounded in how many calls there are.

Invariants:

- At most `max_calls` calls are under way or wait for a thread. Beyond that it is Unavailable at
  once, since one more would only make all others slower.
- A call whose caller gave up before a thread was free is never made, and holds nothing any more.
- Whoever waits when the threads are stopped hears Unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, TypeVar

from shared.errors import Unavailable

Result = TypeVar("Result")


class _Call:
    __slots__ = ("args", "do", "future")

    def __init__(self, do: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.do: Callable[..., Any] | None = do
        self.args = args
        self.future: Future[Any] = Future()
        self.future.add_done_callback(self._forget)

    def make(self) -> None:
        """Make the call, unless its caller has given up."""
        do, args = self.do, self.args
        if do is None or not self.future.set_running_or_notify_cancel():
            return
        try:
            result = do(*args)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def refuse(self) -> None:
        """End a call that was never made."""
        if not self.future.running():
            with contextlib.suppress(InvalidStateError):  # its caller has given up, or it is made
                self.future.set_exception(_stopping())

    def _forget(self, _future: object) -> None:
        self.do, self.args = None, ()


class Threads:
    """A pool of threads for one kind of call."""

    def __init__(self, name: str, size: int, max_calls: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._max_calls = max_calls
        self._calls: set[_Call] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def call(self, do: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
        """Do it in a thread. Cancel the future to give up.

        Raises Unavailable when there are too many calls, or the threads are stopped.
        """
        return asyncio.wrap_future(self.submit(do, *args))

    def submit(self, do: Callable[..., Result], *args: Any) -> Future[Result]:
        """The same with a future that belongs to no loop."""
        call = _Call(do, args)
        with self._lock:
            if self._is_stopped:
                raise _stopping()
            if len(self._calls) >= self._max_calls:
                raise Unavailable("Too many requests are waiting in this process.")
            self._calls.add(call)
            self._pool.submit(self._make, call)
        return call.future

    def _make(self, call: _Call) -> None:
        try:
            call.make()
        finally:
            with self._lock:
                self._calls.discard(call)

    def stop(self) -> None:
        """Let calls under way end; those that wait are never made."""
        with self._lock:
            self._is_stopped = True
            calls = list(self._calls)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for call in calls:
            call.refuse()
        self._pool.shutdown(wait=True)


def _stopping() -> Unavailable:
    return Unavailable("The process is stopping.")
