"""An engine that notes what the sweep hands to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID


class OwnEngine:
    """Takes offers as the engine would. fills: what it took has no room any more."""

    def __init__(self, room: int = 100, *, fills: bool = False) -> None:
        self.room = room
        self.appetite = 1_000
        self.offered: list[UUID] = []
        self.tenants: set[UUID] = set()
        self._fills = fills

    @property
    def free(self) -> int:
        return self.room - len(self.offered) if self._fills else self.room

    def crowded(self) -> set[UUID]:
        return self.tenants

    def offer(self, ids: Sequence[UUID], wait_seconds: float) -> bool:
        self.offered += ids
        return True

    def keep(self, users: Mapping[UUID, UUID]) -> bool:
        self.offered += users
        return True
