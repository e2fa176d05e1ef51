"""The bytes that one API process holds for its callers, within a budget.

Invariants:

- What was taken for a request is given back once, when its answer has left or its client has gone.
- What is kept for little ones is only for requests that hold little, so that no number of large
  ones keeps them out.
"""

from __future__ import annotations

import threading

from shared.errors import Unavailable

# A request holds little up to that.
LITTLE_BYTES = 64 * 1024


class Budget:
    """So many bytes at once. Shared by the event loop and the threads. what: the word for them in
    the error. for_little_ones: the part that is kept for them.
    """

    def __init__(self, what: str, max_bytes: int, for_little_ones: int = 0) -> None:
        self._for_little_ones = for_little_ones
        self._what = what
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int, holds: int = 0) -> None:
        """Hold more; raises Unavailable when it is too much at once. holds: what it has so far."""
        is_little = holds + size <= LITTLE_BYTES
        most = self._max_bytes - (0 if is_little else self._for_little_ones)
        with self._lock:
            if self._held_bytes + size > most:
                raise Unavailable(f"Too many {self._what} are in this process.")
            self._held_bytes += size

    def give(self, size: int) -> None:
        with self._lock:
            self._held_bytes -= size


class Held:
    """What one request holds of a budget."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Hold more until free(); raises Unavailable when that is too much at once."""
        self._budget.take(size, self._size)
        self._size += size

    def free(self) -> None:
        """Give all of it back. May be called again."""
        size, self._size = self._size, 0
        if size:
            self._budget.give(size)
