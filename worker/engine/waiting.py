"""Runs that were offered to this worker and have to wait, since their tenant may hold no more.

They wait here and not in the hint tasks, so that no tenant's backlog stands before the hints of
others. What is forgotten here, or dropped because there is too much of it, the sweep hints again.

Invariants:

- Bounded, for each tenant and in all.
- Within a tenant they keep their order; the tenants take turns.

Used under the room's lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from worker.engine.room import Room
from worker.engine.state import ROW_OVERHEAD_BYTES

# A worker that drains the backlog of one tenant lives on these between two sweeps.
MAX_OF_TENANT = 20_000
MAX_WAITING = 50_000


class Wanted(NamedTuple):
    """What a run needs: as many places as its largest step has executions, and bytes."""

    user_id: UUID
    places: int
    size_bytes: int


class Waiting:
    """What waits, by tenant, each with what it needs; None where nobody has looked at it yet."""

    def __init__(self) -> None:
        self._of: dict[UUID, OrderedDict[UUID, Wanted | None]] = {}
        # What the last one that was looked at needs: the others of its tenant may be like it.
        self._typical: dict[UUID, Wanted] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def tenants(self) -> list[UUID]:
        """Those of whom something waits."""
        return list(self._of)

    def full_for(self) -> list[UUID]:
        """The tenants of whom nothing more would be kept."""
        if self._count >= MAX_WAITING:
            return list(self._of)
        return [user_id for user_id, theirs in self._of.items() if len(theirs) >= MAX_OF_TENANT]

    def add(self, trigger_id: UUID, user_id: UUID) -> None:
        """Let a run wait behind those of its tenant; forget it where too many do."""
        self._add(trigger_id, user_id, None)

    def turned_away(self, wanted: Mapping[UUID, Wanted]) -> None:
        """These had no room. They go before those of their tenants that nobody has looked at."""
        for trigger_id, one in reversed(list(wanted.items())):
            self._typical[one.user_id] = one
            if self._add(trigger_id, one.user_id, one):
                self._of[one.user_id].move_to_end(trigger_id, last=False)

    def _add(self, trigger_id: UUID, user_id: UUID, wanted: Wanted | None) -> bool:
        theirs: Mapping[UUID, Wanted | None] = self._of.get(user_id, {})
        if trigger_id in theirs or len(theirs) >= MAX_OF_TENANT or self._count >= MAX_WAITING:
            return False
        self._of.setdefault(user_id, OrderedDict())[trigger_id] = wanted
        self._count += 1
        return True

    def take(self, room: Room, at_most: int) -> list[UUID]:
        """Take out what fits now, of the tenant that has waited longest for its turn.

        What nobody has looked at may turn out not to fit. It is turned away then, and known.
        """
        for user_id, theirs in list(self._of.items()):
            taken = self._first_that_fit(user_id, theirs, room, at_most)
            if taken:
                self._forget(user_id, taken)
                return taken
        return []

    def _first_that_fit(
        self, user_id: UUID, theirs: Mapping[UUID, Wanted | None], room: Room, at_most: int
    ) -> list[UUID]:
        """The first may get fewer places than it wants, the others all theirs."""
        otherwise = self._typical.get(user_id) or Wanted(user_id, 1, 2 * ROW_OVERHEAD_BYTES)
        taken: list[UUID] = []
        places, size_bytes, free_places, free_bytes = 0, 0, 0, 0
        for trigger_id, known in theirs.items():
            wanted = known or otherwise
            places += wanted.places
            size_bytes += known.size_bytes if known else room.largest_bytes
            if not taken:
                if not room.fitting(user_id, wanted.places, wanted.size_bytes):
                    break
                free_places, free_bytes = room.free_for(user_id)
            elif len(taken) == at_most or places > free_places or size_bytes > free_bytes:
                break
            taken.append(trigger_id)
        return taken

    def _forget(self, user_id: UUID, ids: list[UUID]) -> None:
        """Let these go, and let the other tenants come first."""
        theirs = self._of.pop(user_id)
        for trigger_id in ids:
            del theirs[trigger_id]
        if theirs:
            self._of[user_id] = theirs
        else:
            self._typical.pop(user_id, None)
        self._count -= len(ids)
