"""The engine of a worker, with its threads and doors, on a real PostgreSQL."""

from __future__ import annotations

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
        cls.made = cls()
        return cls.made

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Stuck(Kept):
    """It does not open."""

    async def open(self) -> None:
        raise TimeoutError("no broker answers")


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
