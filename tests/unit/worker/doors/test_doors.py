"""The doors of a worker, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from shared.config import Settings
from worker.actions import KINDS
from worker.doors import Door, Doors
from worker.doors.storage import Storage
from worker.egress.http import Egress

told: list[str] = []


class Noting:
    """A door that tells what becomes of it."""

    dead: str | None = None

    @classmethod
    def make(cls, settings: Settings) -> Door:
        told.append(f"{cls.__name__} made")
        return cls()

    async def open(self) -> None:
        told.append(f"{type(self).__name__} open")

    async def close(self) -> None:
        told.append(f"{type(self).__name__} closed")

    def dead_thread(self) -> str | None:
        return self.dead


class First(Noting):
    """Opens and closes."""


class Second(Noting):
    """Opens; fails to close."""

    async def close(self) -> None:
        await super().close()
        raise OSError("in the way")


class Third(Noting):
    """Opens and closes."""


class Stuck(Noting):
    """Does not open."""

    async def open(self) -> None:
        raise OSError("stuck")


class Dead(Noting):
    """Its thread has died."""

    dead = "broker"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    told.clear()
    yield
    told.clear()


def make(*classes: type[Door]) -> Doors:
    return Doors.make(classes, Settings())


def test_kinds_that_name_one_class_share_one_door() -> None:
    """Fails when each kind has a pool of connections of its own."""
    doors = make(First, Second, First)
    assert told == ["First made", "Second made"]
    assert isinstance(doors.of(First), First)


def test_they_are_opened_in_their_order_and_closed_in_the_reverse_order() -> None:
    doors = make(First, Third)

    async def live() -> None:
        await doors.open_all()
        await doors.close_all()
        await doors.close_all()

    asyncio.run(live())
    assert told[2:] == ["First open", "Third open", "Third closed", "First closed"]


def test_one_that_does_not_open_closes_those_that_are_open() -> None:
    """Fails when a worker that cannot start keeps threads and connections."""
    doors = make(First, Third, Stuck, Second)
    with pytest.raises(OSError, match="stuck"):
        asyncio.run(doors.open_all())
    assert told[4:] == ["First open", "Third open", "Third closed", "First closed"]


def test_one_that_does_not_close_keeps_no_other_open() -> None:
    doors = make(First, Second)

    async def live() -> None:
        await doors.open_all()
        await doors.close_all()

    with capture_logs() as logs:
        asyncio.run(live())
    assert told[-2:] == ["Second closed", "First closed"]
    assert [(entry["event"], entry["door"]) for entry in logs] == [("door_not_closed", "Second")]


def test_a_dead_thread_of_any_door_is_named() -> None:
    assert make(First, Third).dead_thread() is None
    assert make(First, Dead, Third).dead_thread() == "broker"


def test_the_doors_of_all_kinds_can_be_made_and_are_well() -> None:
    """Nothing is opened by making them; fails when a door lacks what Door names."""
    settings = Settings(database_url="postgresql://127.0.0.1:1/none")
    doors = Doors.make((kind.DOOR for kind in KINDS.values()), settings)
    assert isinstance(doors.of(Egress), Egress)
    assert isinstance(doors.of(Storage), Storage)
    assert doors.dead_thread() is None
