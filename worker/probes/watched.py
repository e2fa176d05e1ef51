"""The doors as one probe uses them: they note what was sent, what was dialled and what came.

Invariant: nothing else is different. What goes out goes through the worker's own door, with its
checks, its deadline and its caps.
"""

from __future__ import annotations

from typing import cast

from worker.doors import Door, Ways
from worker.egress.http import Egress
from worker.egress.messages import Dialled, HttpRequest, HttpResponse


class Watched:
    """What one probe did at the door of HTTP: nothing, or one request and how it ended."""

    def __init__(self) -> None:
        self.dialled = Dialled()
        self.request: HttpRequest | None = None
        self.response: HttpResponse | None = None


class WatchedEgress:
    """The door of HTTP, watched."""

    def __init__(self, door: Egress, watched: Watched) -> None:
        self._door = door
        self._watched = watched

    async def request(self, request: HttpRequest) -> HttpResponse:
        """As the door does it; raises EgressError."""
        self._watched.request = request
        response = await self._door.request(request, self._watched.dialled)
        self._watched.response = response
        return response


class WatchedDoors:
    """The doors of a worker, of which that of HTTP is watched."""

    def __init__(self, doors: Ways, watched: Watched) -> None:
        self._doors = doors
        self._watched = watched

    def of(self, door_class: type[Door]) -> Door:
        """The door of a class."""
        door = self._doors.of(door_class)
        if isinstance(door, Egress):
            return cast(Door, WatchedEgress(door, self._watched))
        return door
