"""The doors of a worker: what its action types need to reach the outside.

Each action type names the class of its door. There is one door of a class, however many types share
it. Invariants:

- Doors are opened in the order of the types. One that fails to open closes those that are open.
- They begin to close in the reverse order, and each has the same time for it. One that fails to
  close, or does not end in time, keeps no other open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from shared.config import Settings

# Each door has so long to give back what it has. A group commit behind one gives up sooner.
CLOSE_SECONDS = 7.0

log = structlog.get_logger("doors")


class Door(Protocol):
    """A way out. It lives as long as the engine does, and open() and close() run on its loop."""

    @classmethod
    def make(cls, settings: Settings) -> Door:
        """A door that is not open yet."""
        ...

    async def open(self) -> None:
        """Get ready for attempts; leaves nothing behind when it fails."""
        ...

    async def close(self) -> None:
        """Give everything back. It is cancelled after CLOSE_SECONDS.

        What another thread still works with is left to that thread.
        """
        ...

    def dead_thread(self) -> str | None:
        """The name of a thread of its own that has died, None if all is well. Any thread asks."""
        ...


class Ways(Protocol):
    """What gives the door of a class to whoever performs an attempt."""

    def of(self, door_class: type[Door]) -> Door:
        """The door of a class."""
        ...


class Doors:
    """One door of each class. They are opened and closed together."""

    def __init__(self, doors: Mapping[type[Door], Door]) -> None:
        self._doors = dict(doors)
        self._open: list[Door] = []

    @classmethod
    def make(cls, classes: Iterable[type[Door]], settings: Settings) -> Doors:
        """One door of each of these classes, none of them open."""
        return cls({one: one.make(settings) for one in dict.fromkeys(classes)})

    def of(self, door_class: type[Door]) -> Door:
        """The door of a class."""
        return self._doors[door_class]

    async def open_all(self) -> None:
        """Open them in their order; raises what the first one raises that does not open."""
        for door in self._doors.values():
            try:
                await door.open()
            except BaseException:
                await self.close_all()
                raise
            self._open.append(door)

    async def close_all(self) -> None:
        """Close those that are open, the last one first; ends after CLOSE_SECONDS at the latest."""
        closing: dict[asyncio.Task[None], str] = {}
        while self._open:
            door = self._open.pop()
            closing[asyncio.create_task(door.close())] = type(door).__name__
        if not closing:
            return
        _, late = await asyncio.wait(closing, timeout=CLOSE_SECONDS)
        for task, name in closing.items():
            if task in late:
                task.cancel()
                log.error("door_not_closed", door=name, seconds=CLOSE_SECONDS)
            elif task.cancelled():  # by something that it waited for
                log.error("door_not_closed", door=name, error="CancelledError")
            elif (error := task.exception()) is not None:
                log.error("door_not_closed", door=name, exc_info=error)
        await asyncio.sleep(0)  # for those that end when they are cancelled

    def dead_thread(self) -> str | None:
        """The name of a thread that has died, of whichever door. Any thread asks."""
        return next((name for door in self._doors.values() if (name := door.dead_thread())), None)
