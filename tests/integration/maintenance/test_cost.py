"""What a pass of the sweep costs when there is nothing to do, however much has happened before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from shared.config import Settings
from shared.postgres.connections import OwnedConnection
from shared.redis.hints import HintSender
from shared.redis.queues import make_celery
from tests.history import fill
from tests.world import World
from worker.app import make_sweeps
from worker.maintenance.due import Due

HISTORY = 20_000
FEW_ROWS = 50

_READ = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables
WHERE relname ~ '^(runs|triggers|logs|action_executions)'
"""


@pytest.fixture
def connection(world: World) -> Iterator[OwnedConnection]:
    connection = OwnedConnection(world.database_url, "test", call_seconds=10)
    yield connection
    connection.close()


@pytest.fixture
def duties(world: World, redis_url: str) -> Iterator[Sequence[Any]]:
    sender = HintSender(make_celery(redis_url), redis_url)
    settings = Settings(database_url=world.database_url, redis_url=redis_url)
    sweeps = make_sweeps(settings, Due(sender, _offer, lambda: 100, settings.sweep_seconds))
    yield [duty for sweep in sweeps for duty in sweep.duties]
    sender.close()


def _offer(_ids: Sequence[UUID], _wait_seconds: float) -> bool:
    return True


def rows_read(world: World, connection: OwnedConnection) -> int:
    """How many rows of the tables that grow were read until now, by PostgreSQL's own count."""
    with connection.transaction() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    return int(world.ask(_READ)[0][0])


def test_an_empty_pass_of_the_sweep_reads_nothing_of_what_has_ended(
    world: World, connection: OwnedConnection, duties: Sequence[Any]
) -> None:
    """Guards: the partial indexes of `runs`, and that no duty looks into the past.

    Fails when one reads a whole table.
    """
    action = world.action()
    for days_ago in (0, 1):
        fill(world.cursor, world.callback_id, world.user_id, action, HISTORY // 2, days_ago=days_ago)
    world.do("ANALYZE")
    assert world.ask("SELECT count(*) FROM logs") == [(HISTORY,)]
    for duty in duties:
        duty.do(connection)  # what is done once, such as today's partitions
    before = rows_read(world, connection)
    assert [duty.do(connection) for duty in duties] == [0] * len(duties), "there is nothing to do"
    assert rows_read(world, connection) - before < FEW_ROWS
