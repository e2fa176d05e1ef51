"""What several integration tests of the engine hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world import World
from worker.engine.claim import Claimer
from worker.engine.journal import Journal
from worker.engine.room import Room


@pytest.fixture
def claimer(world: World) -> Iterator[Claimer]:
    claimer = Claimer(world.database_url, Room(10_000, 10**9, 1))
    yield claimer
    claimer.close()


@pytest.fixture
def journal(world: World) -> Iterator[Journal]:
    journal = Journal(world.database_url)
    journal.start()
    yield journal
    journal.stop(5)
