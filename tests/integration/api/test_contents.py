"""Files: read in slices, and only if the process may hold them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from api.resources import content, triggers
from api.work import Workshop
from shared.config import Settings
from shared.errors import Unavailable
from shared.postgres.connections import open_database
from tests.world import World


@pytest.fixture
def database(world: World) -> Iterator[Engine]:
    database = open_database(world.database_url, "test", pool_size=1)
    yield database
    database.dispose()


@pytest.mark.parametrize("size", [0, 1, 999, 1_000, 1_001, 2_500])
def test_slices_make_the_whole(
    world: World, database: Engine, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(content, "SLICE_BYTES", 1_000)
    body = (bytes(range(256)) * 10)[:size]
    trigger_id = world.trigger()
    world.do("UPDATE triggers SET body = %s WHERE id = %s", body, trigger_id)
    held: list[int] = []
    with Workshop(database, Settings()).open(one_moment=True, hold=held.append) as work:
        assert triggers.body(work, world.user_id, trigger_id).data == body
    assert held == [size]


def test_nothing_is_read_that_may_not_be_held(
    world: World, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_size: int) -> None:
        raise Unavailable("Too many files.")

    monkeypatch.setattr(content, "select", None)
    trigger_id = world.trigger()
    with Workshop(database, Settings()).open(hold=refuse) as work, pytest.raises(Unavailable):
        triggers.body(work, world.user_id, trigger_id)
