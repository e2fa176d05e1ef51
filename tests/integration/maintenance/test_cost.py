"""What work costs, however much has happened before: a pass of the sweep with nothing to do, and
the statements of triggers beside the partitions of many days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.ingress.outcomes import Outcomes
from shared.config import Settings
from shared.ids import execution_id, new_id
from shared.postgres.arrays import array
from shared.postgres.connections import OwnedConnection
from shared.postgres.partitions import ensure_partitions
from shared.postgres.statements import MAX_PLANS, PLANNED_ONCE, Transaction
from shared.redis.hints import HintSender
from shared.redis.queues import make_celery
from shared.runs import claim, fence, purge, settle
from shared.runs.enter import enter
from shared.runs.replay import replay
from tests.history import fill
from tests.own_engine import OwnEngine
from tests.world import World
from worker.app import make_sweeps
from worker.engine.rows import read_executions
from worker.engine.switch_off import switch_off
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
    sweeps = make_sweeps(settings, Due(sender, OwnEngine(), settings.sweep_seconds))
    yield [duty for sweep in sweeps for duty in sweep.duties]
    sender.close()


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


DAYS = 40

_LOCKED = """
SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname ~ '_[0-9]{8}$' AND l.mode LIKE %s
"""


@pytest.fixture
def planned(world: World, stranger: World, connect: Callable[..., Any]) -> Iterator[Any]:
    """A cursor as the hot path has it, beside many days of partitions."""
    with connect(autocommit=False).cursor() as cursor:
        ensure_partitions(cursor, days_back=DAYS)
        cursor.connection.commit()
    connection = OwnedConnection(
        world.database_url, "test", call_seconds=10, autocommit=True, settings=PLANNED_ONCE
    )
    with connection.get().cursor() as cursor:
        yield cursor
    connection.close()


def id_of(days_ago: int) -> UUID:
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    return new_id(int(moment.timestamp() * 1000))


def of_days(days: Sequence[int]) -> set[str]:
    """The partitions of these days, counted back from today."""
    dates = [datetime.now(UTC) - timedelta(days=one) for one in days]
    return {f"{table}_{date:%Y%m%d}" for table in ("triggers", "logs", "action_executions") for date in dates}


def locked(cursor: Any, mode: str = "%") -> set[str]:
    """The partitions that this transaction has opened; PostgreSQL locks each that it opens."""
    cursor.execute(_LOCKED, (mode,))
    return {row[0] for row in cursor.fetchall()}


def columns_of(tenants: Sequence[World], ids: Sequence[UUID]) -> tuple[str, ...]:
    texts = [array(["x"] * len(ids))] * 2
    return (
        array(ids),
        array(tenant.callback_id for tenant in tenants),
        array(tenant.user_id for tenant in tenants),
        *texts,
        array([""] * len(ids)),
        array(["[]"] * len(ids)),
        array([None] * len(ids)),
        array(f"of {tenant.user_id}".encode() for tenant in tenants),
        *[array([None] * len(ids))] * 2,
    )


def carry(cursor: Any, tenants: Sequence[World], ids: Sequence[UUID]) -> None:
    """What the engine writes and reads of triggers from their claim to their end."""
    statements = Transaction(cursor)
    actions = [tenant.action() for tenant in tenants]
    executions = [execution_id(one, 0) for one in ids]
    worker = new_id()
    count = len(ids)
    taken = claim.claim(statements, ids, worker, 0, 3, [])
    assert [(row[0], bytes(row[14])) for row in taken] == sorted(
        (one, f"of {tenant.user_id}".encode()) for one, tenant in zip(ids, tenants, strict=True)
    )
    claim.insert_executions(
        statements,
        (
            array(executions),
            array(ids),
            array(actions),
            array(tenant.callback_id for tenant in tenants),
            array(tenant.user_id for tenant in tenants),
            array(["HTTP_POST"] * count),
            array([0] * count),
            array(["PENDING"] * count),
            array([0] * count),
            array([1] * count),
        ),
    )
    claim.start_again(statements, (array(executions), array(ids), array([1] * count), array([1] * count)))
    assert fence.lock(statements, ids).keys() == set(ids)
    found = read_executions(statements, ids)
    assert {(one, found[one][0].status.value) for one in ids} == {(one, "RUNNING") for one in ids}
    none = array([None] * count)
    fence.write(
        statements,
        (
            array(executions),
            array(ids),
            array(["SUCCESS"] * count),
            *[array([1] * count)] * 2,
            *[none] * 5,
            array([False] * count),
        ),
    )
    switch_off(statements, list(zip(actions, ids, strict=True)))
    ends = [settle.Settlement(one, success=True, details="{}") for one in ids]
    statements.tell(settle.SETTLE, *settle.columns(ends))
    assert fence.lock(statements, ids) == {}


@pytest.mark.parametrize("days", [(0, 0), (3, 3), (2, 1), (1, 0), range(MAX_PLANS + 2)])
def test_a_trigger_opens_no_partition_but_that_of_its_day(
    world: World, stranger: World, planned: Any, days: Sequence[int]
) -> None:
    """Fails when a plan holds the partitions of other days, of which each makes a batch dearer."""
    ids = [id_of(one) for one in days]
    tenants = [world, stranger] * (len(ids) // 2)
    planned.execute("BEGIN")
    enter(planned, columns_of(tenants, ids), 5.0, [])
    carry(planned, tenants, ids)
    assert locked(planned) == of_days(days)
    planned.execute("ROLLBACK")


def test_who_asks_for_outcomes_replays_or_deletes_opens_no_partition_but_that_of_its_day(
    world: World, stranger: World, planned: Any
) -> None:
    ids = [id_of(3), id_of(3)]
    enter(planned, columns_of([world, stranger], ids), 5.0, [])
    carry(planned, [world, stranger], ids)
    planned.execute("COMMIT")

    @contextmanager
    def transaction() -> Iterator[Any]:
        yield planned

    outcomes = Outcomes(world.database_url, 1)
    outcomes._connection.transaction = transaction  # type: ignore[method-assign]
    planned.execute("BEGIN")
    assert {one: outcome.status for one, outcome in outcomes._read(set(ids)).items()} == dict.fromkeys(
        ids, "SUCCESS"
    )
    assert locked(planned) <= of_days([3])
    for tenant, trigger_id in zip((world, stranger), ids, strict=True):
        made = replay(planned, tenant.user_id, ids, "start")
        assert made.keys() == {trigger_id}
    assert locked(planned) == of_days([3]) | {name for name in of_days([0]) if name.startswith("triggers")}
    planned.execute("ROLLBACK")


def test_the_purge_opens_no_partition_for_writing_but_that_of_its_day(
    world: World, stranger: World, planned: Any
) -> None:
    """Fails when rows are removed by a join, whose plan holds every partition."""
    ids = [id_of(3), id_of(3)]
    enter(planned, columns_of([world, stranger], ids), 5.0, [])
    carry(planned, [world, stranger], ids)
    planned.execute("COMMIT; BEGIN")
    (action,) = world.ask("SELECT id::text FROM actions WHERE callback_id = %s", world.callback_id)[0]
    callback = str(world.callback_id)
    steps = (purge.triggers_of_callback, purge.logs_of_callback)
    assert purge.executions_of_action(planned, action, 9) == 1
    assert [step(planned, callback, 9) for step in steps] == [1, 2], "today its action was switched off"
    written = locked(planned, "RowExclusiveLock")
    assert written == of_days([3]) | {name for name in of_days([0]) if name.startswith("logs")}
    planned.execute("COMMIT")
    assert world.ask("SELECT user_id FROM triggers") == [(stranger.user_id,)]


def test_plans_of_days_that_nobody_asks_about_any_more_are_dropped(
    world: World, stranger: World, planned: Any
) -> None:
    """Fails when a connection that lives for months keeps the plans of each of its days."""
    planned.execute("BEGIN")
    for day in range(MAX_PLANS + 3, -1, -1):
        ids = [id_of(day), id_of(day)]
        enter(planned, columns_of([world, stranger], ids), 5.0, [])
        carry(planned, [world, stranger], ids)
    planned.execute(
        "SELECT count(*), count(DISTINCT regexp_replace(name, '_[0-9]+_[0-9]+$', '')) FROM pg_prepared_statements"
        " WHERE name ~ '_[0-9]+_[0-9]+$'"
    )
    plans, families = planned.fetchone()
    assert plans == MAX_PLANS * families > 0
    planned.execute("ROLLBACK")
