"""How much a worker holds: bounded in runs and in bytes of bodies.

A trigger that is in here is in this process's memory and is never claimed again. Shared by the
claim thread, the loop and the heartbeat. A run that leaves wakes those threads alone that wait for
that: a claim thread that waits for an offer sleeps on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from uuid import UUID


class Room:
    """The runs that this worker holds and the room for more."""

    def __init__(self, capacity: int, capacity_bytes: int, largest_bytes: int) -> None:
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._largest_bytes = largest_bytes
        self._held: dict[UUID, int] = {}
        self._held_bytes = 0
        self._waiting = 0
        self.changed = threading.Condition()

    def free(self) -> int:
        """How many more runs may be claimed, even if each has the largest body there can be."""
        with self.changed:
            by_bytes = (self._capacity_bytes - self._held_bytes) // self._largest_bytes
            if not self._held:
                by_bytes = max(by_bytes, 1)
            return max(min(self._capacity - len(self._held), by_bytes), 0)

    def take(self, trigger_id: UUID, size_bytes: int) -> None:
        with self.changed:
            self._held[trigger_id] = size_bytes
            self._held_bytes += size_bytes

    def leave(self, trigger_id: UUID) -> None:
        with self.changed:
            size_bytes = self._held.pop(trigger_id, None)
            if size_bytes is not None:
                self._held_bytes -= size_bytes
                if self._waiting:
                    self.changed.notify_all()

    def wait_for_leave(self, seconds: float) -> None:
        """Wait, at most so long, until a run has left or `changed` is notified.

        The caller holds the lock of `changed`.
        """
        self._waiting += 1
        try:
            self.changed.wait(seconds)
        finally:
            self._waiting -= 1

    def without_held(self, ids: Iterable[UUID]) -> list[UUID]:
        """These ids, each once, less those already held."""
        with self.changed:
            return [trigger_id for trigger_id in dict.fromkeys(ids) if trigger_id not in self._held]

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, trigger_id: UUID) -> bool:
        return trigger_id in self._held
