"""A worker's sign of life on a real PostgreSQL."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.ids import new_id
from shared.keyring.checks import examine
from shared.process import EX_CONFIG
from shared.runs import give_back
from shared.threads import EX_SOFTWARE
from tests.running import eventually
from tests.world import World
from worker.engine.heartbeat import Heartbeat
from worker.engine.room import Room
from worker.engine.uses import CredentialUses

SETTINGS = Settings(heartbeat_seconds=0.1, lease_seconds=1.0, stale_seconds=2.0)

# Less than a call may take: half of the lease.
HELD_UP_SECONDS = 0.6


class Loop:
    """A loop that ticks, or is wedged."""

    def __init__(self) -> None:
        self.wedged_at: float | None = None

    def ticked_at(self) -> float:
        return time.monotonic() if self.wedged_at is None else self.wedged_at


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def lost() -> list[str]:
    return []


@pytest.fixture
def room() -> Room:
    return Room(10, 10**8, 10**6)


@pytest.fixture
def heartbeat(world: World, loop: Loop, lost: list[str], room: Room) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(SETTINGS, world.database_url, room, loop.ticked_at, lost.append)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def beat_at(world: World) -> Any:
    return world.ask("SELECT heartbeat_at FROM workers")[0][0]


def test_a_worker_registers_beats_and_leaves(world: World, heartbeat: Heartbeat) -> None:
    assert heartbeat.holds_lease()
    first = beat_at(world)
    eventually(lambda: beat_at(world) > first, 5, "a second heartbeat")
    heartbeat.stop()
    assert world.rows.count("workers") == 0


def test_a_wedged_loop_looks_dead_and_loses_the_lease(
    world: World, heartbeat: Heartbeat, loop: Loop, lost: list[str]
) -> None:
    """Fails when the thread beats whatever the loop does."""
    loop.wedged_at = time.monotonic() - 60
    eventually(lambda: lost == ["lease_expired"], 5, "the loss of the lease")
    assert not heartbeat.holds_lease()
    loop.wedged_at = None
    eventually(heartbeat.holds_lease, 5, "the lease again")


def test_a_worker_that_was_declared_dead_goes_on_under_a_new_id(
    world: World, heartbeat: Heartbeat, lost: list[str]
) -> None:
    """Fails when the row is simply written again: that would revive the void claims."""
    old = heartbeat.worker_id
    world.do("DELETE FROM workers")
    eventually(lambda: world.rows.count("workers") == 1, 5, "a new row")
    assert heartbeat.worker_id != old
    assert lost == ["declared_dead"]
    eventually(heartbeat.holds_lease, 5, "the lease again")


def test_the_use_of_a_credential_is_written_past_those_that_somebody_holds(
    world: World, loop: Loop, lost: list[str], room: Room, connect: Callable[..., Any]
) -> None:
    """Fails when a beat waits for a row: the lease would run out."""
    used, _unused, held = (UUID(world.rows.insert("service_credentials")["id"]) for _ in range(3))
    holder = connect(autocommit=False).cursor()
    holder.execute("SELECT 1 FROM service_credentials WHERE id = %s FOR UPDATE", (str(held),))
    uses = CredentialUses()
    for one in (used, held):
        uses.note(one)
    heartbeat = Heartbeat(SETTINGS, world.database_url, room, loop.ticked_at, lost.append, uses=uses)
    heartbeat.start()

    def written() -> set[UUID]:
        rows = world.ask("SELECT id FROM service_credentials WHERE last_used_at > now() - interval '1 min'")
        return {row[0] for row in rows}

    try:
        eventually(lambda: written() == {used}, 5, "the use that is written")
        first = beat_at(world)
        eventually(lambda: beat_at(world) > first, 5, "another heartbeat")
        assert written() == {used}
        assert lost == []
    finally:
        heartbeat.stop()
    assert world.ask("SELECT updated_at = created_at FROM service_credentials") == [(True,)] * 3


def test_a_claim_that_memory_does_not_know_is_released_after_two_heartbeats(
    world: World, heartbeat: Heartbeat, room: Room
) -> None:
    """Fails without reconcile: an ambiguous claim would strand the run under a healthy worker."""
    known = world.trigger(status="RUNNING", worker_id=heartbeat.worker_id, claim=1)
    room.take(known, new_id(), 1, 1)
    stranded = world.trigger(status="RUNNING", worker_id=heartbeat.worker_id, claim=1)
    world.rows.insert("action_executions", trigger_id=stranded, status="RUNNING", attempt=1)

    eventually(lambda: (world.run(stranded) or {})["status"] == "PENDING", 5, "the release")

    row = world.run(known)
    assert row is not None
    assert row["status"] == "RUNNING"
    (execution,) = world.executions(stranded)
    assert (execution["status"], [h["outcome"] for h in execution["history"]]) == ("PENDING", ["released"])


@pytest.fixture
def by_hand(world: World, loop: Loop, lost: list[str], room: Room) -> Iterator[Heartbeat]:
    """A heartbeat that beats at its start and then only when a test says so."""
    settings = SETTINGS.model_copy(update={"heartbeat_seconds": 3600.0})
    heartbeat = Heartbeat(settings, world.database_url, room, loop.ticked_at, lost.append)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def test_one_heartbeat_alone_releases_nothing(world: World, by_hand: Heartbeat, room: Room) -> None:
    """Fails when reconcile acts at first sight: a claim that is on its way into memory would be
    given away, and its attempt made twice.
    """
    mine = {"status": "RUNNING", "worker_id": by_hand.worker_id, "claim": 1}
    stranded, late = world.trigger(**mine), world.trigger(**mine)

    by_hand._beat()

    assert world.ask("SELECT status, worker_id FROM runs") == [("RUNNING", by_hand.worker_id)] * 2
    room.take(late, new_id(), 1, 1)
    by_hand._beat()
    assert world.ask("SELECT trigger_id, status FROM runs ORDER BY trigger_id") == sorted(
        [(stranded, "PENDING"), (late, "RUNNING")]
    )


def test_a_run_that_was_unknown_once_and_then_again_later_is_seen_anew(
    world: World, by_hand: Heartbeat, room: Room
) -> None:
    """Fails when any two heartbeats count, and not two in a row."""
    mine = {"status": "RUNNING", "worker_id": by_hand.worker_id, "claim": 1}
    trigger_id = world.trigger(**mine)
    by_hand._beat()
    room.take(trigger_id, new_id(), 1, 1)
    by_hand._beat()
    room.leave(trigger_id)
    by_hand._beat()
    assert world.ask("SELECT status FROM runs") == [("RUNNING",)]
    by_hand._beat()
    assert world.ask("SELECT status FROM runs") == [("PENDING",)]


def test_the_lease_counts_from_the_beginning_of_the_heartbeat(
    world: World, loop: Loop, lost: list[str], room: Room, connect: Callable[..., Any]
) -> None:
    """Fails when it counts from the end: the others count from when the row was written, and would
    declare dead who still delivers.
    """
    settings = SETTINGS.model_copy(update={"heartbeat_seconds": 3600.0, "lease_seconds": 2.0})
    heartbeat = Heartbeat(settings, world.database_url, room, loop.ticked_at, lost.append)
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE workers IN SHARE MODE")
        starting = threading.Thread(target=heartbeat.start)
        starting.start()
        waits = "SELECT 1 FROM pg_locks WHERE relation = 'workers'::regclass AND NOT granted"
        eventually(lambda: world.ask(waits), 5, "a heartbeat that is held up")
        held_up_at = time.monotonic()
        eventually(lambda: time.monotonic() > held_up_at + HELD_UP_SECONDS, 5, "some time to pass")
    other.rollback()
    starting.join(5)

    assert heartbeat.holds_lease()
    over = held_up_at + settings.lease_seconds  # it began before that
    eventually(lambda: time.monotonic() > over, 5, "the lease to be over")
    assert not heartbeat.holds_lease()
    heartbeat.stop()


def test_a_locked_row_in_reconcile_costs_no_lease(
    world: World, heartbeat: Heartbeat, lost: list[str], connect: Callable[..., Any]
) -> None:
    """Fails when reconcile waits for locks or belongs to the renewal."""
    stranded = world.trigger(status="RUNNING", worker_id=heartbeat.worker_id, claim=1)
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE trigger_id = %s FOR UPDATE", (stranded,))
        beats: set[Any] = set()

        def has_beaten_on() -> bool:
            beats.add(beat_at(world))
            return len(beats) > 15

        eventually(has_beaten_on, 10, "fifteen heartbeats")
        assert (heartbeat.holds_lease(), lost) == (True, [])
    other.rollback()
    eventually(lambda: (world.run(stranded) or {})["status"] == "PENDING", 5, "the release")


def test_a_reconcile_asks_about_a_bounded_number_of_runs_and_comes_to_all(
    world: World,
    stranger: World,
    by_hand: Heartbeat,
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when each heartbeat reads all of `runs`: a million rows eat the lease."""
    monkeypatch.setattr("worker.engine.heartbeat.RECONCILE_SHARE", 0.0)
    monkeypatch.setattr(by_hand, "_portion_rows", 10)
    mine = {"status": "RUNNING", "worker_id": by_hand.worker_id, "claim": 1}
    ids = sorted(tenant.trigger() for tenant in [world, stranger] * 20)
    by_hand._after = ids[0]  # the walk is under way
    stranded = [(tenant, tenant.trigger(**mine)) for tenant in (world, stranger)]
    known = world.trigger(**mine)
    room.take(known, new_id(), 1, 1)
    asked: list[int] = []
    held_in_portion = give_back.held_in_portion

    def noting(cursor: Any, worker_id: UUID, after: UUID, rows: int) -> Any:
        asked.append(rows)
        return held_in_portion(cursor, worker_id, after, rows)

    monkeypatch.setattr(give_back, "held_in_portion", noting)
    for _ in range(6):
        by_hand._beat()
    assert asked == [10] * 6
    rows = [tenant.run(one) for tenant, one in stranded] + [world.run(known)]
    assert [row["status"] for row in rows if row] == ["PENDING", "PENDING", "RUNNING"]


def test_a_reconcile_that_is_held_up_delays_no_heartbeat_for_long(
    world: World, heartbeat: Heartbeat, lost: list[str], connect: Callable[..., Any]
) -> None:
    """Fails when a reconcile may take as long as a heartbeat, each time: half of the lease."""
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        beats: dict[Any, float] = {}

        def has_beaten_on() -> bool:
            beats.setdefault(beat_at(world), time.monotonic())
            return len(beats) > 8

        eventually(has_beaten_on, 20, "eight heartbeats")
    other.rollback()
    assert (heartbeat.holds_lease(), lost) == (True, [])
    took = sorted(later - earlier for earlier, later in pairwise(beats.values()))
    assert took[len(took) // 2] < SETTINGS.lease_seconds / 2


def test_another_workers_claims_are_left_alone(world: World, heartbeat: Heartbeat) -> None:
    other = world.trigger(status="RUNNING", worker_id=new_id(), claim=1)
    beats: set[Any] = set()

    def has_beaten_thrice() -> bool:
        beats.add(beat_at(world))
        return len(beats) > 3

    eventually(has_beaten_thrice, 5, "three more heartbeats")
    row = world.run(other)
    assert row is not None
    assert row["status"] == "RUNNING"


def test_a_thread_of_the_engine_that_died_ends_the_process(
    world: World, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only the loop is watched: with a dead journal a worker would claim and never
    settle.
    """
    ended: list[int] = []
    monkeypatch.setattr("worker.engine.heartbeat.os._exit", ended.append)
    heartbeat = Heartbeat(
        SETTINGS, world.database_url, room, time.monotonic, lambda _reason: None, lambda: "journal"
    )
    heartbeat.start()
    heartbeat.stop()
    assert ended[0] == EX_SOFTWARE


def test_a_worker_says_which_keys_it_knows(world: World, loop: Loop, room: Room) -> None:
    """What no rotation may go past."""
    box = SecretBox(f"{new_key()},{new_key()}")
    beating = Heartbeat(SETTINGS, world.database_url, room, loop.ticked_at, lambda _: None, secrets=box)
    beating.start()
    assert world.ask("SELECT key_ids FROM workers") == [(list(box.key_ids),)]
    beating.stop()


def test_a_worker_without_a_key_that_is_needed_ends_and_holds_no_lease(
    world: World, loop: Loop, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it claims, and each delivery that needs the key fails for good."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    examine(world.database_url, new_key())
    box = SecretBox(new_key())
    beating = Heartbeat(SETTINGS, world.database_url, room, loop.ticked_at, lambda _: None, secrets=box)
    beating._beat()
    assert ended == [EX_CONFIG]
    assert not beating.holds_lease()
    assert world.rows.count("workers") == 0
