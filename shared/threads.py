"""Loops in threads of their own.

Invariant: a loop that ends although nobody stopped it is noticed: has_died says so, and whoever
runs the process ends it, since nothing can fix it. A process that lives on without one of its loops
would look well and do nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog

EX_SOFTWARE = 70
"""The exit code of a process one of whose loops has died."""

log = structlog.get_logger("threads")


class OwnedThread:
    """One loop, started once and stopped once. It belongs to the object whose method it runs."""

    def __init__(self, name: str, loop: Callable[[], None]) -> None:
        self.name = name
        self._loop = loop
        self._is_stopping = False
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, wake: Callable[[], None], timeout_seconds: float) -> bool:
        """Expect the loop to end, wake it, and wait a bounded time; False when it goes on.

        wake: tells the loop to end. It is called also when the loop was never started.
        """
        self._is_stopping = True
        wake()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def has_died(self) -> bool:
        """Whether it has ended although nobody stopped it."""
        return self._has_ended and not self._is_stopping  # is_alive() is False also while a thread begins

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:
            log.critical("loop_died", thread=self.name, exc_info=True)
        finally:
            self._has_ended = True


def first_dead(threads: Iterable[OwnedThread]) -> str | None:
    """The name of one that has died, None when all are well."""
    return next((thread.name for thread in threads if thread.has_died), None)
