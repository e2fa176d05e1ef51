"""The bytes that one API process holds for its callers, within a budget.

Invariant: what was taken for a request is given back once, when its answer has left or its client
has gone.
"""

from __future__ import annotations

import threading

from shared.errors import Unavailable


class Budget:
    """So many bytes at once. Shared by the event loop and the threads. what: the word for them in
    the error.
    """

    def __init__(self, what: str, max_bytes: int) -> None:
        self._what = what
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Hold more; raises Unavailable when that is too much at once."""
        with self._lock:
            if self._held_bytes + size > self._max_bytes:
                raise Unavailable(f"Too many {self._what} are in this process.")
            self._held_bytes += size

    def give(self, size: int) -> None:
        with self._lock:
            self._held_bytes -= size


class Share:
    """What one request holds of a budget."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Hold more until free(); raises Unavailable when that is too much at once."""
        self._budget.take(size)
        self._size += size

    def free(self) -> None:
        """Give all of it back. May be called again."""
        size, self._size = self._size, 0
        if size:
            self._budget.give(size)
