"""The maintenance duties on a real PostgreSQL and a real Redis."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg2
import pytest
import redis
from pydantic import SecretStr

from shared.config import Settings
from shared.ids import first_id_of, new_id
from shared.postgres.connections import OwnedConnection
from shared.postgres.partitions import missing_partitions
from shared.redis.hints import MAX_LANE_MESSAGES, HintSender
from shared.redis.queues import KEY_PREFIX, make_celery
from shared.runs import remind
from tests.own_engine import OwnEngine
from tests.world import World
from worker.app import make_sweeps
from worker.maintenance import due as due_module
from worker.maintenance.dead_workers import DeadWorkers
from worker.maintenance.due import MAX_PER_TENANT, PASS_MESSAGES, Due
from worker.maintenance.expired import Expired

LATER = "2999-01-01"
NOW = "2000-01-01"


@pytest.fixture
def connection(world: World) -> Iterator[OwnedConnection]:
    connection = OwnedConnection(world.database_url, "test", call_seconds=10)
    yield connection
    connection.close()


class Emptied(HintSender):
    """A sender whose lanes are emptied before each pass, as by workers that take what comes."""

    def length(self, lane: str) -> int | None:
        assert super().length(lane) is not None
        self._open().channel.client.delete(lane)
        return super().length(lane)


@pytest.fixture
def engine() -> OwnEngine:
    return OwnEngine()


@pytest.fixture
def sender(redis_url: str) -> Iterator[HintSender]:
    sender = HintSender(make_celery(redis_url), redis_url)
    yield sender
    sender.close()


@pytest.fixture
def due(sender: HintSender, engine: OwnEngine) -> Due:
    return Due(sender, engine, 1.0)


def lengths(redis_url: str) -> tuple[int, int]:
    with redis.Redis.from_url(redis_url) as client:
        return tuple(int(client.llen(KEY_PREFIX + lane)) for lane in ("fresh", "retry"))  # type: ignore[return-value]


def test_due_runs_are_hinted_once_in_their_lane(
    world: World, connection: OwnedConnection, due: Due, engine: OwnEngine, redis_url: str
) -> None:
    for _ in range(3):
        world.trigger(hint_at=NOW)
    world.trigger(hint_at=NOW, claim=1)
    world.trigger(hint_at=LATER)
    world.trigger(hint_at=NOW, status="RUNNING")

    assert due.do(connection) == 4
    assert lengths(redis_url) == (1, 1)
    assert due.do(connection) == 0, "hinting moved hint_at forward"
    assert engine.offered == []
    assert world.ask("SELECT count(*) FROM runs WHERE due_at > now()") == [(0,)], "due_at is never moved"


def test_a_hint_that_came_to_nothing_goes_to_the_own_engine(
    world: World, connection: OwnedConnection, due: Due, engine: OwnEngine, redis_url: str
) -> None:
    """Guards deliveries against a Celery consumer that has fallen asleep."""
    trigger_id = world.trigger(hint_at=NOW)
    due.do(connection)
    world.do("UPDATE runs SET hint_at = now()")
    due.do(connection)
    assert engine.offered == [trigger_id]
    assert lengths(redis_url) == (1, 0)


def test_the_distance_between_hints_doubles_up_to_ten_minutes(
    world: World, connection: OwnedConnection, due: Due
) -> None:
    world.trigger(hint_at=NOW)
    distances = []
    for _ in range(8):
        due.do(connection)
        distances.append(
            round(float(world.ask("SELECT extract(epoch FROM hint_at - now()) FROM runs")[0][0]) / 30)
        )
        world.do("UPDATE runs SET hint_at = now()")
    assert distances == [1, 2, 4, 8, 16, 20, 20, 20]


def test_no_tenant_takes_more_than_its_share_of_a_pass(
    world: World, connection: OwnedConnection, engine: OwnEngine, sender: HintSender
) -> None:
    """Fails without the share: the noisy tenant's older rows come first."""
    quiet = new_id()
    for _ in range(MAX_PER_TENANT + 20):
        world.trigger(hint_at=NOW)
    other = world.trigger(hint_at="2001-01-01", user_id=quiet)
    due = Due(sender, engine, 1.0)

    taken = due._take(connection, 1_000, MAX_PER_TENANT, ())  # one pass of several

    assert taken is not None
    assert len(taken) == MAX_PER_TENANT + 1
    assert other in {one.trigger_id for one in taken}


def test_a_tenant_with_a_long_backlog_keeps_nobody_waiting(
    world: World, connection: OwnedConnection, engine: OwnEngine, redis_url: str
) -> None:
    """Fails when the rows looked at are cut off before each tenant has its share.

    Also when a tenant with whom nobody shares still has no more than a share of each pass: its
    backlog would be drained at less than half of the usual rate.
    """
    for _ in range(3):
        world.trigger(hint_at="2001-01-01", user_id=new_id())
    world.do(
        "INSERT INTO runs (trigger_id, callback_id, user_id, hint_at)"
        " SELECT gen_random_uuid(), %s, %s, '2000-01-01' FROM generate_series(1, 12000)",
        world.callback_id,
        world.user_id,
    )
    sender = Emptied(make_celery(redis_url), redis_url)
    hinted = Due(sender, engine, 1.0).do(connection)
    sender.close()
    assert world.ask("SELECT count(*) FROM runs WHERE hint_count = 0") == [(0,)]
    # on a slow machine what was hinted first is taken once more
    assert hinted >= 12_003


class LookingDue(Due):
    """Notes past whom it looked, and whether through everything."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looks: list[tuple[frozenset[UUID], bool, bool]] = []

    def _take(self, *given: Any, early: bool = False) -> list[Any] | None:
        _, _, _, served, *back_seconds = given
        self.looks.append((frozenset(served), back_seconds in ([], [remind.ALL_SECONDS]), early))
        return super()._take(*given, early=early)

    def past(self, *served: UUID) -> int:
        """How often it looked through everything past exactly these tenants."""
        return sum(tenants == set(served) and all_of_it for tenants, all_of_it, _ in self.looks)


def test_a_backlog_is_looked_past_once_and_nobody_is_overlooked(
    world: World,
    stranger: World,
    connection: OwnedConnection,
    engine: OwnEngine,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when each pass looks through the whole backlog for others: beside a million runs that
    took PostgreSQL as much as their deliveries did.

    Also when another tenant's retry that comes due meanwhile, or what was locked during the look,
    is not found.
    """
    monkeypatch.setattr(due_module, "GOOD_FOR", 1_000_000.0)
    for tenant in (world, stranger):
        world.do(
            "INSERT INTO runs (trigger_id, callback_id, user_id, hint_at)"
            " SELECT gen_random_uuid(), %s, %s, '2000-01-01' FROM generate_series(1, 30000)",
            tenant.callback_id,
            tenant.user_id,
        )
    sender = Emptied(make_celery(redis_url), redis_url)
    due = LookingDue(sender, engine, 1.0)
    due.do(connection)
    both = (world.user_id, stranger.user_id)
    assert due.past(*both) == 2, "for what is due, and for what is taken early"

    world.do("UPDATE runs SET hint_at = '2000-01-01', hint_count = 0")
    stranger.do("UPDATE runs SET hint_at = '2000-01-02' WHERE user_id = %s", stranger.user_id)
    third, locked = new_id(), new_id()
    retried = world.trigger(hint_at=str(datetime.now(UTC)), user_id=third, claim=1)
    overlooked = world.trigger(hint_at="2001-01-01", user_id=locked)
    due.do(connection)
    assert due.past(*both) == 2
    hinted = "SELECT count(*) FROM runs WHERE trigger_id = %s AND hint_count > 0"
    assert world.ask(hinted, retried) == [(1,)]
    assert world.ask(hinted, overlooked) == [(0,)], "this test shows nothing"
    shares = world.ask(
        "SELECT count(*) FROM runs WHERE hint_count > 0 AND user_id = ANY(%s) GROUP BY user_id", list(both)
    )
    assert max(shares) < (1.2 * min(shares)[0],), "one tenant's rows all come before the other's"
    due._alone._until = 0.0  # a while later
    due.do(connection)
    assert world.ask(hinted, overlooked) == [(1,)]
    sender.close()


def test_a_full_lane_takes_no_more_and_is_asked_for_its_length_only_then(
    world: World, stranger: World, sender: HintSender, redis_url: str
) -> None:
    """Fails without the bound: a weekend without workers would fill Redis.

    Also when each hint costs a further round trip.
    """
    with redis.Redis.from_url(redis_url) as client:

        def asked() -> int:
            return int(client.info("commandstats").get("cmdstat_llen", {"calls": 0})["calls"])

        before = asked()
        ids = [tenant.trigger() for tenant in (world, stranger)] * ((MAX_LANE_MESSAGES + 20) // 2)
        taken = [sender.send("fresh", [one]) for one in ids]
        assert taken == [True] * MAX_LANE_MESSAGES + [False] * 20
        assert asked() - before <= 2 + 20, "at first, when kombu declares the queue, and when it is full"
        assert lengths(redis_url) == (MAX_LANE_MESSAGES, 0)
        assert sender.send("retry", ids[:2]), "another lane has room"
        sent = [
            json.loads(base64.b64decode(json.loads(one)["body"]))[0]
            for one in client.lrange(KEY_PREFIX + "fresh", 0, -1)
        ]
        assert [one for ([one],) in reversed(sent)] == [str(one) for one in ids[:MAX_LANE_MESSAGES]]
        client.rpop(KEY_PREFIX + "fresh", 5)
        assert [sender.send("fresh", [one]) for one in ids[:6]] == [True] * 5 + [False]


def test_what_was_never_claimed_waits_while_its_lane_is_long_and_is_taken_when_it_is_short(
    world: World, stranger: World, connection: OwnedConnection, due: Due, engine: OwnEngine, redis_url: str
) -> None:
    """Fails when a backlog is hinted again and again into a lane that nobody empties.

    Also when what was held back waits for its next hint, up to ten minutes, beside idle workers.
    """
    engine.room = 0
    fresh = [tenant.trigger(hint_at=NOW) for tenant in (world, stranger)]
    retried = [tenant.trigger(hint_at=NOW, claim=1) for tenant in (world, stranger)]
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(KEY_PREFIX + "fresh", *["a hint"] * PASS_MESSAGES)
        assert due.do(connection) == 4
        assert lengths(redis_url) == (PASS_MESSAGES, 1)
        assert due.do(connection) == 0
        client.rpop(KEY_PREFIX + "fresh")
        assert due.do(connection) == 0, "what was hinted just now is not hinted early"
        world.do("UPDATE runs SET hint_at = hint_at - interval '6 s'")
        assert due.do(connection) == 2
        assert sorted(engine.offered) == sorted(fresh), "its own engine would keep them"
        assert lengths(redis_url) == (PASS_MESSAGES - 1, 1)
    hints = world.ask("SELECT trigger_id, hint_count FROM runs WHERE hint_at > now() ORDER BY trigger_id")
    assert hints == sorted([(one, 2) for one in fresh] + [(one, 1) for one in retried])


def test_what_would_be_forgotten_here_is_held_back_until_there_is_room(
    world: World,
    stranger: World,
    connection: OwnedConnection,
    engine: OwnEngine,
    sender: HintSender,
    redis_url: str,
) -> None:
    """Fails when the backlog of a tenant whose receivers hang is hinted again each second, or when
    its turn never comes.
    """
    engine.tenants, engine.appetite = {world.user_id}, 0
    due = Due(sender, engine, 1.0)
    mine = [world.trigger(hint_at=NOW) for _ in range(3)]
    others = stranger.trigger(hint_at=NOW)
    due.do(connection)
    assert lengths(redis_url) == (1, 0)
    with redis.Redis.from_url(redis_url) as client:
        message = json.loads(client.lindex(KEY_PREFIX + "fresh", 0))
    assert json.loads(base64.b64decode(message["body"]))[0] == [[str(others)]]
    assert world.ask("SELECT count(*) FROM runs WHERE hint_at <= now()") == [(0,)], "none is looked at again"
    world.do("UPDATE runs SET hint_at = hint_at - interval '10 s'")  # a while later
    due.do(connection)
    assert lengths(redis_url) == (1, 0)
    assert engine.offered == []
    engine.tenants, engine.appetite = set(), 9
    due.do(connection)
    assert set(mine) <= set(engine.offered), "this worker has room for them"


def test_what_waits_in_a_worker_is_taken_early_ever_more_rarely(
    world: World, stranger: World, connection: OwnedConnection, sender: HintSender, engine: OwnEngine
) -> None:
    """Fails when runs of a tenant whose receivers hang are written to each second, though they wait
    in this worker already.
    """
    due = Due(sender, engine, 1.0)
    ids = sorted(tenant.trigger(hint_at=NOW) for tenant in (world, stranger))
    due.do(connection)
    came: list[int] = []
    for second in range(1, 33):
        due._held_back_at = time.monotonic()
        world.do("UPDATE runs SET hint_at = hint_at - interval '1 s'")
        if due.do(connection):
            assert sorted(engine.offered) == ids
            engine.offered.clear()
            came.append(second)
    assert came == [1, 3, 7, 15, 31]


def test_when_redis_answers_but_takes_no_writes_the_own_engine_is_offered_them(
    world: World, connection: OwnedConnection, due: Due, engine: OwnEngine, redis_url: str
) -> None:
    """Fails when only an unanswered PING counts as Redis being away: out of memory it answers."""
    ids = {world.trigger(hint_at=NOW) for _ in range(5)}
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            due.do(connection)
        finally:
            client.config_set("maxmemory", str(256 * 1024 * 1024))
    assert set(engine.offered) == ids


def test_without_redis_the_own_engine_is_offered_what_fits(world: World, connection: OwnedConnection) -> None:
    """Guards deliveries without Redis."""
    dead = "redis://127.0.0.1:1/0"
    engine = OwnEngine(room=2, fills=True)
    due = Due(HintSender(make_celery(dead), dead), engine, 1.0)
    for _ in range(5):
        world.trigger(hint_at=NOW)
    due.do(connection)
    assert len(engine.offered) == 2
    assert world.ask("SELECT count(*) FROM runs WHERE hint_at <= now()") == [(3,)], "the rest stays due"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def watch(duty: DeadWorkers, connection: OwnedConnection, clock: Clock, seconds: int) -> int:
    """Read the heartbeats every other second for so long; how much was void."""
    voided = 0
    for _ in range(0, seconds, 2):
        clock.seconds += 2
        voided += duty.do(connection)
    return voided


def running(world: World, worker: UUID) -> UUID:
    world.action()
    trigger_id = world.trigger(status="RUNNING", worker_id=worker, claim=1)
    world.rows.insert(
        "action_executions", trigger_id=trigger_id, status="RUNNING", attempt=1, callback_id=world.callback_id
    )
    return trigger_id


def test_a_dead_workers_runs_are_void_after_the_sweepers_own_clock(
    world: World, connection: OwnedConnection
) -> None:
    clock = Clock()
    duty = DeadWorkers(10, 1, clock)
    worker = UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"])
    trigger_id = running(world, worker)

    assert duty.do(connection) == 0, "seen for the first time, however old it looks"
    assert watch(duty, connection, clock, 8) == 0
    assert watch(duty, connection, clock, 2) == 1

    row = world.run(trigger_id)
    assert row is not None
    assert (row["status"], row["worker_id"], row["claim"], row["losses"]) == ("PENDING", None, 2, 1)
    (execution,) = world.executions(trigger_id)
    assert (execution["status"], [h["outcome"] for h in execution["history"]]) == ("PENDING", ["worker_lost"])
    assert world.ask("SELECT count(*) FROM workers") == [(0,)]


def test_a_loss_in_company_is_told_from_a_loss_alone(world: World, connection: OwnedConnection) -> None:
    """Fails when every loss counts towards the bound: one poisoned payload would fail its
    neighbours.
    """
    clock = Clock()
    duty = DeadWorkers(10, 1, clock)
    company, alone = (UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"]) for _ in range(2))
    together = [running(world, company) for _ in range(2)]
    lonely = running(world, alone)
    duty.do(connection)
    watch(duty, connection, clock, 10)

    def losses(trigger_id: UUID) -> tuple[int, int]:
        row = world.run(trigger_id)
        assert row is not None
        return row["losses"], row["losses_alone"]

    assert [losses(one) for one in (*together, lonely)] == [(1, 0), (1, 0), (1, 1)]


def test_a_worker_whose_heart_beats_is_never_declared_dead(world: World, connection: OwnedConnection) -> None:
    clock = Clock()
    duty = DeadWorkers(10, 1, clock)
    trigger_id = running(world, UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"]))
    for _ in range(5):
        assert watch(duty, connection, clock, 8) == 0
        world.do("UPDATE workers SET heartbeat_at = heartbeat_at + interval '1 s'")
    assert watch(duty, connection, clock, 2) == 0
    row = world.run(trigger_id)
    assert row is not None
    assert row["status"] == "RUNNING"


@pytest.mark.parametrize("meanwhile", ["another sweep", "a heartbeat"])
def test_a_sweep_that_slept_over_what_it_saw_voids_nothing(
    world: World, connection: OwnedConnection, meanwhile: str
) -> None:
    """Fails when what was seen before a pause is believed after it: the next holder's attempt would
    be void too.
    """
    clock = Clock()
    awake, slept = (DeadWorkers(10, 1, clock) for _ in range(2))
    worker = UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"])
    trigger_id = running(world, worker)
    for _ in range(5):
        for duty in (awake, slept):
            assert duty.do(connection) == 0
        clock.seconds += 2
    seen = slept._look(connection)
    if meanwhile == "another sweep":
        assert awake.do(connection) == 1
    else:
        world.do("UPDATE workers SET heartbeat_at = heartbeat_at + interval '1 s'")

    assert sum(slept._void(connection, dead, beat) for dead, beat in seen) == 0

    losses = 1 if meanwhile == "another sweep" else 0
    row = world.run(trigger_id)
    assert row is not None
    assert row["losses"] == losses
    assert len(world.executions(trigger_id)[0]["history"]) == losses


def test_a_failed_read_starts_the_clock_anew(world: World, connection: OwnedConnection) -> None:
    """Guards against the mass false death after an outage of PostgreSQL."""
    clock = Clock()
    duty = DeadWorkers(10, 1, clock)
    running(world, UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"]))
    duty.do(connection)
    clock.seconds += 60
    away = OwnedConnection("postgresql://nobody:x@127.0.0.1:1/x", "test", call_seconds=1)
    with pytest.raises(psycopg2.OperationalError):
        duty.do(away)
    assert duty.do(connection) == 0
    assert watch(duty, connection, clock, 8) == 0
    assert watch(duty, connection, clock, 2) == 1


class SlowConnection:
    """A connection whose next call takes so long, of a clock that a test moves."""

    def __init__(self, connection: OwnedConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self.seconds = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._connection.transaction() as cursor:
            self._clock.seconds += self.seconds
            self.seconds = 0.0
            yield cursor


@pytest.mark.parametrize("how", ["slow read", "late read"])
def test_a_late_read_starts_the_clock_anew(
    world: World, stranger: World, connection: OwnedConnection, how: str
) -> None:
    """Guards against the mass false death after a PostgreSQL that was frozen: it fails no read.

    A read that takes less than a heartbeat's interval is not late, nor is one after less than a
    quarter of the stale time.
    """
    clock = Clock()
    slow = SlowConnection(connection, clock)
    duty = DeadWorkers(20, 1, clock, heartbeat_seconds=3)
    workers = [UUID(world.rows.insert("workers", heartbeat_at=NOW)["id"]) for _ in range(2)]
    ids = [running(tenant, worker) for tenant, worker in zip((world, stranger), workers, strict=True)]
    read = cast(OwnedConnection, slow)

    def read_late(seconds: float) -> int:
        if how == "slow read":
            slow.seconds = seconds
        else:
            clock.seconds += seconds
        return duty.do(read)

    assert duty.do(read) == 0
    assert watch(duty, read, clock, 18) == 0
    assert read_late(26) == 0
    assert watch(duty, read, clock, 18) == 0
    assert read_late(3.1 if how == "slow read" else 5.1) == 0
    assert watch(duty, read, clock, 16) == 0
    assert [
        run["status"] for tenant, one in zip((world, stranger), ids, strict=True) if (run := tenant.run(one))
    ] == ["RUNNING"] * 2
    assert read_late(2.9 if how == "slow read" else 4.9) == (0 if how == "slow read" else 2)
    assert watch(duty, read, clock, 2) == (2 if how == "slow read" else 0)


def test_runs_of_a_worker_without_a_row_are_void_too(world: World, connection: OwnedConnection) -> None:
    clock = Clock()
    duty = DeadWorkers(10, 1, clock)
    trigger_id = running(world, new_id())
    duty.do(connection)
    watch(duty, connection, clock, 10)
    row = world.run(trigger_id)
    assert row is not None
    assert row["status"] == "PENDING"


def test_another_process_that_does_the_same_duty_is_not_disturbed(
    world: World, connection: OwnedConnection, due: Due, connect: Callable[..., Any]
) -> None:
    from worker.maintenance.duty import is_mine

    world.trigger(hint_at=NOW)
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        assert is_mine(cursor, "due")
        assert due.do(connection) == 0
    other.rollback()
    assert due.do(connection) == 1


def test_what_has_expired_is_removed_and_nothing_else(
    world: World, stranger: World, connection: OwnedConnection
) -> None:
    """Fails when a key is forgotten early, though only by a minute, or another tenant's with it."""
    a_minute = timedelta(minutes=1)
    for table, owner in (
        ("idempotency_keys", "callback_id"),
        ("kept_answers", "user_id"),
        ("sessions", "user_id"),
        ("retired_tokens", "callback_id"),
    ):
        for tenant in (world, stranger):
            for moment in (datetime.now(UTC) - a_minute, datetime.now(UTC) + a_minute):
                world.rows.insert(table, expires_at=moment, **{owner: getattr(tenant, owner)})
    duty = Expired()
    assert duty.do(connection) == 8
    for table in ("idempotency_keys", "kept_answers", "sessions", "retired_tokens"):
        assert world.ask(f"SELECT count(*), min(expires_at) > now() FROM {table}") == [(2, True)]
    assert duty.do(connection) == 0


def test_a_key_that_is_being_taken_is_left_to_the_next_pass(
    world: World, connection: OwnedConnection, connect: Callable[..., Any]
) -> None:
    """Fails without SKIP LOCKED: the sweep would wait for the ingress."""
    world.rows.insert("idempotency_keys", callback_id=world.callback_id, expires_at=NOW)
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM idempotency_keys FOR UPDATE")
        assert Expired().do(connection) == 0
    other.rollback()


def test_a_week_of_partitions_is_made_ahead(world: World, connection: OwnedConnection, due: Due) -> None:
    """By the duties that a worker has. Fails when none is made: the first trigger of a day without
    a partition, and each behind it, would be refused.
    """
    future = world.ask(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE substring(c.relname FROM '_([0-9]{8})$') > to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
    )
    assert len(future) >= 3 * 6, "a migrated database has them, for each of three tables"
    for (name,) in future:
        world.do(f'DROP TABLE "{name}"')
    settings = Settings(database_url=SecretStr(world.database_url))

    for sweep in make_sweeps(settings, due):
        for duty in sweep.duties:
            duty.do(connection)

    assert missing_partitions(world.cursor, days_ahead=7) == []
    tomorrow = first_id_of(datetime.now(UTC) + timedelta(days=1))
    world.rows.insert("triggers", id=tomorrow)
