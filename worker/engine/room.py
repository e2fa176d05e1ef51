"""How much a worker holds, in places and in bytes, and how much of that one tenant may have.

A run takes as many places as its largest step has executions, so that whatever is attempted at one
moment has a place. The last part of both, a fifth unless a setting says otherwise, is only for
tenants that hold less than that part; everything else is free to whoever comes. So a tenant whose
receivers hang fills four fifths of a worker and holds nobody else up.

Invariants:

- A run in here is in this process's memory, or about to be, and is never claimed again.
- A run gets no more than one tenant may have. What a step has beyond that runs in slices.
- A tenant that holds nothing is given what there is for one run. Another gets all places that it
  wants, or half of what one tenant may have.

Shared by the claim thread, which alone takes, by the loop and the heartbeat. A run that leaves
wakes those threads alone that wait for that: a claim thread that waits for an offer sleeps on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from shared.config import Settings
from worker.engine.state import ROW_OVERHEAD_BYTES


class _Held(NamedTuple):
    user_id: UUID
    places: int
    size_bytes: int


class _Supply:
    """So much of one thing; `reserved` of it is only for tenants that hold less than that."""

    def __init__(self, capacity: int, reserved: int) -> None:
        self.capacity = capacity
        self.reserved = reserved
        self.used = 0
        self._of: dict[UUID, int] = {}

    def common(self) -> int:
        """What is free to everybody; less than nothing where newcomers are in the reserve."""
        return self.capacity - self.reserved - self.used

    def left(self) -> int:
        return self.capacity - self.used

    def free_for(self, user_id: UUID | None) -> int:
        """How much this tenant may take now. None: one that holds nothing."""
        held = self._of.get(user_id, 0) if user_id is not None else 0
        return max(self.common(), min(self.reserved - held, self.left()), 0)

    def tenants(self) -> list[UUID]:
        return list(self._of)

    def holds_nothing(self, user_id: UUID | None) -> bool:
        return user_id not in self._of

    def take(self, user_id: UUID, amount: int) -> None:
        self.used += amount
        self._of[user_id] = self._of.get(user_id, 0) + amount

    def give_back(self, user_id: UUID, amount: int) -> None:
        self.used -= amount
        left = self._of[user_id] - amount
        if left:
            self._of[user_id] = left
        else:
            del self._of[user_id]


class Room:
    """The runs that this worker holds and the room for more.

    capacity: places. largest_bytes: what the largest run may hold when it is claimed.
    reserved_share: the part, from 0 to below 1, that is only for tenants that hold less than it.
    """

    def __init__(
        self, capacity: int, capacity_bytes: int, largest_bytes: int, reserved_share: float = 0.2
    ) -> None:
        self._places = _Supply(capacity, int(capacity * reserved_share))
        self._bytes = _Supply(capacity_bytes, int(capacity_bytes * reserved_share))
        self.largest_bytes = largest_bytes
        self._held: dict[UUID, _Held] = {}
        self._waiting = 0
        self.changed = threading.Condition()

    @classmethod
    def of(cls, settings: Settings) -> Room:
        """That of one worker process."""
        largest_bytes = settings.max_body_bytes + 2 * ROW_OVERHEAD_BYTES
        return cls(settings.capacity, settings.capacity_bytes, largest_bytes, settings.reserved_share)

    @property
    def most_for_one(self) -> int:
        """Places that one tenant, and so one run, may have."""
        return self._places.capacity - self._places.reserved

    @property
    def _half(self) -> int:
        return (self.most_for_one + 1) // 2

    def free(self, user_id: UUID | None = None) -> int:
        """How many runs of one place this tenant may take, even if each is as large as it can be;
        one, while there are any bytes, since most runs are small.

        None: a tenant that holds nothing, which may take as many as anybody.
        """
        with self.changed:
            size_bytes = self._bytes_for(user_id)
            by_bytes = max(size_bytes // self.largest_bytes, int(size_bytes > 0 or not self._held))
            return min(self._places.free_for(user_id), by_bytes)

    def _bytes_for(self, user_id: UUID | None) -> int:
        if self._bytes.holds_nothing(user_id):
            return max(self._bytes.left(), 0)
        return self._bytes.free_for(user_id)

    def has_in_common(self, part: int) -> bool:
        """Whether this part of what one tenant may have, an eighth for 8, is free to everybody."""
        with self.changed:
            return self._places.common() * part >= self.most_for_one

    def full_for(self) -> list[UUID]:
        """The tenants that hold something and may take nothing more now."""
        with self.changed:
            if self._places.common() > 0 and self._bytes.common() > 0:
                return []
            return [user_id for user_id in self._places.tenants() if not self.free(user_id)]

    def free_for(self, user_id: UUID) -> tuple[int, int]:
        """How many places and bytes this tenant may take now."""
        with self.changed:
            return self._places.free_for(user_id), self._bytes_for(user_id)

    def fitting(self, user_id: UUID, places: int, size_bytes: int) -> int:
        """How many of these places a run would get now: none when it has to wait.

        places: as many as its largest step has executions. size_bytes: of what it holds in memory,
        for which an empty room is always large enough.
        """
        with self.changed:
            wanted = max(places, 1)
            if self._held and size_bytes > self._bytes_for(user_id):
                return 0
            free = self._places.free_for(user_id)
            # half of what one may have is enough: else a broad step waits for each of its tenant's
            enough = 1 if self._places.holds_nothing(user_id) else min(wanted, self._half)
            return min(free, wanted) if free >= enough else 0

    def take(self, trigger_id: UUID, user_id: UUID, places: int, size_bytes: int) -> int:
        """Hold a run, if it fits, and return its places. Only the claim thread takes."""
        with self.changed:
            got = self.fitting(user_id, places, size_bytes)
            if got:
                self._held[trigger_id] = _Held(user_id, got, size_bytes)
                self._places.take(user_id, got)
                self._bytes.take(user_id, size_bytes)
            return got

    def leave(self, trigger_id: UUID) -> None:
        with self.changed:
            held = self._held.pop(trigger_id, None)
            if held is not None:
                self._places.give_back(held.user_id, held.places)
                self._bytes.give_back(held.user_id, held.size_bytes)
                if self._waiting:
                    self.changed.notify_all()

    def grow(self, trigger_id: UUID, size_bytes: int) -> None:
        """A run holds so many bytes more, or less if they are negative."""
        with self.changed:
            held = self._held.get(trigger_id)
            if held is not None:
                self._held[trigger_id] = held._replace(size_bytes=held.size_bytes + size_bytes)
                self._bytes.take(held.user_id, size_bytes)
                if size_bytes < 0 and self._waiting:
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
