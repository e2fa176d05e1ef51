"""The doors as one probe uses them: they note what was sent, what was dialled and what came.

Invariant: nothing else is different. What goes out goes through the worker's own door, with its
checks, its deadline and its caps.
"""

from __future__ import annotations

import asyncio
from typing import cast

from worker.doors import Door, Ways
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import Dialled, HttpRequest, HttpResponse
from worker.egress.tokens import Tokens


class Watched:
    """What one probe did at the door of HTTP: nothing, or one request and how it ended.

    is_refused: it has sent nothing, since the address of a token server was refused.
    """

    def __init__(self) -> None:
        self.dialled = Dialled()
        self.request: HttpRequest | None = None
        self.response: HttpResponse | None = None
        self.is_refused = False


class WatchedEgress:
    """The door of HTTP, watched by the task that makes it.

    What another task asks for through it is a token, which others use as well: nothing of that is
    the probe's to show.
    """

    def __init__(self, door: Egress, watched: Watched) -> None:
        self._door = door
        self._watched = watched
        self._task = asyncio.current_task()

    @property
    def tokens(self) -> Tokens:
        return self._door.tokens

    async def request(self, request: HttpRequest) -> HttpResponse:
        """As the door does it; raises EgressError."""
        watched, dialled = self._watched, Dialled()
        is_own = asyncio.current_task() is self._task
        if is_own:
            watched.request, watched.dialled, watched.is_refused = request, dialled, False
        try:
            response = await self._door.request(request, dialled)
        except EgressError as error:
            # of a renewal that is refused while the old token serves, nothing is the probe's
            if error.code == "blocked_address" and watched.request is None:
                watched.is_refused, watched.dialled = True, dialled
            raise
        if is_own:
            watched.response = response
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
