"""The engine of a worker, with its threads and doors, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.threads import EX_SOFTWARE
from tests.made_kind import MADE_TYPE, Megaphone, Saying, register
from tests.running import eventually
from tests.world import World
from worker.doors import Door
from worker.engine.engine import Engine


class Kept(Megaphone):
    """A door that can be found again; there is one."""

    made: Kept
    is_open = False

    @classmethod
    def make(cls, settings: Settings) -> Door:
        Kept.made = cls()
        return Kept.made

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Stuck(Kept):
    """It does not open."""

    async def open(self) -> None:
        raise TimeoutError("no broker answers")


class NeverOpen(Kept):
    """It hangs when it is opened."""

    async def open(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.is_open = True


class NeverClosed(Kept):
    """It hangs when it is closed."""

    async def close(self) -> None:
        await asyncio.Event().wait()


class Cancelled(Kept):
    """What it waits for when it is closed has been cancelled."""

    async def close(self) -> None:
        raise asyncio.CancelledError


class Broken(Kept):
    """It fails when it is closed."""

    async def close(self) -> None:
        raise OSError("in the way")


class Silent(Kept):
    """Nothing that is said comes through."""

    async def say(self, word: str, number: int) -> None:
        await super().say(word, number)
        await asyncio.Event().wait()


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Saying:
    return register(monkeypatch)


def make_engine(world: World, door: type[Kept], saying: Saying) -> Engine:
    saying.DOOR = door
    settings = Settings(
        database_url=SecretStr(world.database_url),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),  # nobody waits to be told
        drain_seconds=1.0,
    )
    return Engine(settings, SecretBox(new_key()))


@contextmanager
def running(engine: Engine) -> Iterator[None]:
    engine.start()
    try:
        yield
    finally:
        engine.stop()


def test_an_action_goes_through_the_door_of_its_kind(world: World, saying: Saying) -> None:
    """The engine names no kind and no door.

    Fails when a kind's door is not opened with the others.
    """
    world.action(type=MADE_TYPE, config=json.dumps({"say": "hello"}))
    trigger_id = world.trigger()
    engine = make_engine(world, Kept, saying)
    with running(engine):
        assert Kept.made.is_open
        assert engine.offer([trigger_id], 5)
        eventually(lambda: world.run(trigger_id) is None, 5, "the end of the run")
    assert Kept.made.said == [("hello", 1)]
    assert not Kept.made.is_open


def test_an_engine_whose_door_does_not_open_does_not_start(world: World, saying: Saying) -> None:
    """Fails when the door's own timeout passes for a slow loop: every attempt would fail then."""
    engine = make_engine(world, Stuck, saying)
    with pytest.raises(TimeoutError, match="no broker answers"):
        engine.start()
    with capture_logs():
        engine.stop()
    assert world.rows.count("workers") == 0


def test_a_door_that_hangs_when_it_is_opened_is_cancelled(
    world: World, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it goes on beside the stop: it would be opened after all were closed."""
    monkeypatch.setattr("worker.engine.engine.START_SECONDS", 0.2)
    engine = make_engine(world, NeverOpen, saying)
    with pytest.raises(TimeoutError):
        engine.start()
    eventually(lambda: Kept.made.is_open, 5, "the end of its opening")
    with capture_logs():
        engine.stop()


@pytest.mark.parametrize("door", [NeverClosed, Cancelled, Broken])
def test_a_worker_says_farewell_whatever_a_door_does(
    world: World, saying: Saying, monkeypatch: pytest.MonkeyPatch, door: type[Kept]
) -> None:
    """Fails when a door ends the stop: others would have to find out that this worker is gone."""
    monkeypatch.setattr("worker.doors.CLOSE_SECONDS", 0.2)
    engine = make_engine(world, door, saying)
    engine.start()
    assert world.rows.count("workers") == 1
    with capture_logs() as logs:
        engine.stop()
    assert world.rows.count("workers") == 0
    assert "door_not_closed" in {entry["event"] for entry in logs}
    assert logs[-1]["event"] == "engine_stopped"


def test_a_run_that_does_not_end_in_time_is_given_back(world: World, saying: Saying) -> None:
    world.action(type=MADE_TYPE, config=json.dumps({"say": "hello"}))
    trigger_id = world.trigger()
    engine = make_engine(world, Silent, saying)
    with running(engine):
        assert engine.offer([trigger_id], 5)
        eventually(lambda: Kept.made.said, 5, "the attempt")
    run = world.run(trigger_id)
    assert run is not None
    assert (run["status"], run["worker_id"]) == ("PENDING", None)
    (execution,) = world.executions(trigger_id)
    assert (execution["status"], execution["attempt"]) == ("PENDING", 1)
    assert [past["outcome"] for past in execution["history"]] == ["released"]
    assert world.rows.count("workers") == 0


def test_a_thread_of_a_door_that_died_ends_the_process(
    world: World, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only the engine's own threads are watched: attempts through that door would
    hang.
    """
    ended: list[int] = []
    monkeypatch.setattr("worker.engine.engine.os._exit", ended.append)
    engine = make_engine(world, Kept, saying)
    with capture_logs() as logs, running(engine):
        assert ended == []
        Kept.made.dead = "broker"
        eventually(lambda: bool(ended), 5, "the end of the process")
        Kept.made.dead = None
    assert set(ended) == {EX_SOFTWARE}
    assert {entry["thread"] for entry in logs if entry["event"] == "thread_died"} == {"broker"}
