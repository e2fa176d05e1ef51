"""The doors of a worker, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from shared.config import Settings
from shared.postgres.group_commit import SHUTDOWN_SECONDS
from worker import doors
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


async def hang() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told.append("Hanging cancelled")
        raise


class Hanging(Noting):
    """Does not open until it is cancelled."""

    async def open(self) -> None:
        await hang()


class HangingAtItsEnd(Noting):
    """Opens; does not close until it is cancelled."""

    async def close(self) -> None:
        await hang()


class Stubborn(Noting):
    """Opens; does not close, whatever is done to it."""

    async def close(self) -> None:
        while not Stubborn.enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await Stubborn.enough.wait()

    enough: asyncio.Event


class CancelledInside(Noting):
    """Opens; something that it waits for when it closes has been cancelled."""

    async def close(self) -> None:
        raise asyncio.CancelledError


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
    made = make(First, Second, First)
    assert told == ["First made", "Second made"]
    assert isinstance(made.of(First), First)


def test_they_are_opened_in_their_order_and_closed_in_the_reverse_order() -> None:
    made = make(First, Third)

    async def live() -> None:
        await made.open_all()
        await made.close_all()
        await made.close_all()

    asyncio.run(live())
    assert told[2:] == ["First open", "Third open", "Third closed", "First closed"]


def test_one_that_does_not_open_closes_those_that_are_open() -> None:
    """Fails when a worker that cannot start keeps threads and connections."""
    made = make(First, Third, Stuck, Second)
    with pytest.raises(OSError, match="stuck"):
        asyncio.run(made.open_all())
    assert told[4:] == ["First open", "Third open", "Third closed", "First closed"]


def test_one_that_does_not_close_keeps_no_other_open() -> None:
    with capture_logs() as logs:
        asyncio.run(live_and_close(Second))
    assert told[-2:] == ["Second closed", "First closed"]
    assert [(entry["event"], entry["door"]) for entry in logs] == [("door_not_closed", "Second")]


async def live_and_close(*classes: type[Door]) -> None:
    doors = make(First, *classes)
    await doors.open_all()
    told.clear()
    await doors.close_all()


def test_one_that_hangs_when_it_closes_is_cancelled_and_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "CLOSE_SECONDS", 0.05)
    with capture_logs() as logs:
        asyncio.run(live_and_close(HangingAtItsEnd))
    assert sorted(told) == ["First closed", "Hanging cancelled"]
    assert [(entry["event"], entry["door"]) for entry in logs] == [("door_not_closed", "HangingAtItsEnd")]


def test_one_that_does_not_even_end_when_cancelled_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "CLOSE_SECONDS", 0.05)

    async def live() -> None:
        Stubborn.enough = asyncio.Event()
        await live_and_close(Stubborn, HangingAtItsEnd)
        assert sorted(told) == ["First closed", "Hanging cancelled"]
        Stubborn.enough.set()

    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(live(), 5))
    assert {entry["door"] for entry in logs} == {"Stubborn", "HangingAtItsEnd"}


def test_one_that_is_cancelled_inside_keeps_no_other_open() -> None:
    """Fails when such an end is taken for that of whoever closes the doors."""
    with capture_logs() as logs:
        asyncio.run(live_and_close(CancelledInside))
    assert told == ["First closed"]
    assert [(entry["event"], entry["door"]) for entry in logs] == [("door_not_closed", "CancelledInside")]


def test_one_that_hangs_when_it_opens_closes_those_that_are_open_when_it_is_cancelled() -> None:
    async def live() -> None:
        made = make(First, Hanging, Third)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.open_all(), 0.05)
        await made.close_all()

    asyncio.run(live())
    assert told[3:] == ["First open", "Hanging cancelled", "First closed"]


def test_a_group_commit_behind_a_door_gives_up_before_its_door_is_given_up() -> None:
    assert SHUTDOWN_SECONDS < doors.CLOSE_SECONDS


def test_a_dead_thread_of_any_door_is_named() -> None:
    assert make(First, Third).dead_thread() is None
    assert make(First, Dead, Third).dead_thread() == "broker"


def test_the_doors_of_all_kinds_can_be_made_and_are_well() -> None:
    """Nothing is opened by making them; fails when a door lacks what Door names."""
    settings = Settings(database_url="postgresql://127.0.0.1:1/none")
    made = Doors.make((kind.DOOR for kind in KINDS.values()), settings)
    assert isinstance(made.of(Egress), Egress)
    assert isinstance(made.of(Storage), Storage)
    assert made.dead_thread() is None
