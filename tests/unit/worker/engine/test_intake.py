"""The intake, with a claimer that only notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import cast
from uuid import UUID

import psycopg2
import pytest

from shared.ids import new_id
from tests.running import eventually
from tests.unit.worker.actions.test_http_post import context
from worker.engine import suspects
from worker.engine.claim import Claimer
from worker.engine.intake import MAX_CLAIM_IDS, Intake
from worker.engine.room import Room
from worker.engine.state import HeldRun

CAPACITY = 5

Deliver = Callable[[list[HeldRun]], None]


class NotingClaimer:
    """Claims everything it is asked to, after the gate opens."""

    def __init__(self) -> None:
        self.asked: list[list[UUID]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.losses: dict[UUID, int] = {}

    def claim(
        self, worker_id: UUID, ids: Sequence[UUID], deliver: Deliver, max_losses: int = 0
    ) -> list[HeldRun]:
        assert self.gate.wait(5)
        self.asked.append(list(ids))
        if self.failures:
            raise self.failures.pop()
        base = context()
        runs = [
            HeldRun(replace(base.trigger, id=i), base.callback, worker_id, 1, self.losses.get(i, 0), [])
            for i in ids
            if self.losses.get(i, 0) <= max_losses
        ]
        deliver(runs)
        return runs

    def suspects(self, ids: Sequence[UUID]) -> dict[UUID, int]:
        return {i: self.losses[i] for i in ids if i in self.losses}

    def close(self) -> None: ...


class World:
    """An intake and everything around it."""

    def __init__(self) -> None:
        self.room = Room(CAPACITY, 10**9, 10**4)
        self.claimer = NotingClaimer()
        self.delivered: list[UUID] = []
        self.lease = True
        self.intake = Intake(
            cast(Claimer, self.claimer),
            self.room,
            lambda: UUID(int=1),
            lambda: self.lease,
            lambda runs: self.delivered.extend(run.id for run in runs),
        )
        self.intake.start()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.claimer.gate.set()
    world.intake.stop()


def ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def test_what_fits_is_claimed_and_the_rest_waits_for_room(world: World) -> None:
    offered = ids(CAPACITY + 2)
    waiting = threading.Thread(target=world.intake.offer, args=(offered, 5.0))
    waiting.start()
    eventually(lambda: len(world.delivered) == CAPACITY, 5, "a full room")
    assert waiting.is_alive()
    for done in offered[:2]:
        world.room.leave(done)
    waiting.join(5)
    assert world.delivered == offered


def test_an_offer_that_gave_up_is_not_claimed_later(world: World) -> None:
    first, second = ids(CAPACITY), ids(1)
    assert world.intake.offer(first, 5)
    assert not world.intake.offer(second, 0.05)
    world.room.leave(first[0])
    assert world.intake.offer(ids(1), 5)
    assert second[0] not in world.delivered


def test_a_trigger_in_memory_is_never_claimed_again(world: World) -> None:
    (one,) = ids(1)
    assert world.intake.offer([one, one], 5)
    assert world.intake.offer([one], 5)
    assert world.claimer.asked == [[one]]


def test_without_a_lease_nothing_is_claimed(world: World) -> None:
    world.lease = False
    assert not world.intake.offer(ids(1), 0.1)
    assert world.claimer.asked == []
    world.lease = True
    assert world.intake.offer(ids(1), 5)


def test_an_empty_hint_is_done_at_once(world: World) -> None:
    assert world.intake.offer([], 1)


def test_a_claim_that_fails_ends_its_offer_and_not_the_thread(world: World) -> None:
    world.claimer.failures = [KeyError("ours"), psycopg2.OperationalError("gone")]
    for _ in range(2):
        assert world.intake.offer(ids(1), 5)
    assert world.intake.offer(ids(1), 5)
    assert len(world.delivered) == 1


def _open_later(gate: threading.Event) -> None:
    threading.Event().wait(0.2)
    gate.set()


@pytest.mark.parametrize("held_up", ["for room", "in a claim"])
def test_stop_frees_whoever_waits(held_up: str) -> None:
    """Fails when the offers of a claim that is not made any more are forgotten: Celery's pool would
    hang.
    """
    world = World()
    if held_up == "for room":
        world.intake.offer(ids(CAPACITY), 5)
    else:
        world.claimer.gate.clear()
        threading.Thread(target=world.intake.offer, args=(ids(1), 30), daemon=True).start()
        threading.Thread(target=_open_later, args=(world.claimer.gate,), daemon=True).start()
    waiter = threading.Thread(target=world.intake.offer, args=(ids(1), 30))
    waiter.start()
    started = time.monotonic()
    world.intake.stop()
    waiter.join(5)
    assert not waiter.is_alive()
    assert time.monotonic() - started < 5
    assert not world.intake.offer(ids(1), 5), "a stopped intake takes nothing"


def test_room_is_bounded_in_bytes_too() -> None:
    room = Room(capacity=100, capacity_bytes=1000, largest_bytes=300)
    assert room.free() == 3
    room.take(new_id(), 500)
    assert room.free() == 1
    (big,) = ids(1)
    room.take(big, 400)
    assert room.free() == 0
    room.leave(big)
    room.leave(big)
    assert room.free() == 1
    tiny = Room(capacity=100, capacity_bytes=100, largest_bytes=300)
    assert tiny.free() == 1, "the largest trigger can always be claimed by an empty worker"


def _has_offers(world: World, number: int) -> bool:
    return len(world.intake._offers) == number


def test_what_was_offered_in_parts_is_claimed_together_once_there_is_room(world: World) -> None:
    """One transaction for many hints: fails when each offer is claimed by itself."""
    world.lease = False
    parts = [ids(2), ids(1), ids(2)]
    waiting = [threading.Thread(target=world.intake.offer, args=(part, 5.0)) for part in parts]
    for number, thread in enumerate(waiting, 1):
        thread.start()
        eventually(partial(_has_offers, world, number), 5, "the offer to arrive")
    world.lease = True
    for thread in waiting:
        thread.join(5)
    assert world.claimer.asked == [[one for part in parts for one in part]]


def test_no_claim_names_more_ids_than_one_transaction_should_hold() -> None:
    world = World()
    world.intake.stop()
    roomy = Room(10_000, 10**9, 1)
    claimer = NotingClaimer()
    intake = Intake(cast(Claimer, claimer), roomy, lambda: UUID(int=1), lambda: True, lambda _runs: None)
    intake.start()
    offered = ids(MAX_CLAIM_IDS * 2 + 1)
    assert intake.offer(offered, 5)
    intake.stop()
    assert [len(asked) for asked in claimer.asked] == [MAX_CLAIM_IDS, MAX_CLAIM_IDS, 1]
    assert [one for asked in claimer.asked for one in asked] == offered


def test_the_rest_of_an_offer_that_gave_up_is_not_claimed(world: World) -> None:
    """Its first ids had room; the others are left to the sweep."""
    offered = ids(CAPACITY + 3)
    assert not world.intake.offer(offered, 0.1)
    assert world.delivered == offered[:CAPACITY]
    for done in offered[:CAPACITY]:
        world.room.leave(done)
    later = ids(1)
    assert world.intake.offer(later, 5)
    assert world.delivered == offered[:CAPACITY] + later


def test_an_offer_waits_no_longer_than_it_said(world: World) -> None:
    world.intake.offer(ids(CAPACITY), 5)
    started = time.monotonic()
    assert not world.intake.offer(ids(1), 0.1)
    assert 0.1 <= time.monotonic() - started < 2


def test_what_others_have_claimed_already_takes_no_room() -> None:
    """The claimer returns only what it got; fails when room is taken for what was asked."""
    delivered: list[UUID] = []

    class Beaten(NotingClaimer):
        def claim(
            self, worker_id: UUID, ids: Sequence[UUID], deliver: Deliver, max_losses: int = 0
        ) -> list[HeldRun]:
            return super().claim(worker_id, ids[:1], deliver, max_losses)

    room, claimer = Room(CAPACITY, 10**9, 10**4), Beaten()
    intake = Intake(
        cast(Claimer, claimer),
        room,
        lambda: UUID(int=1),
        lambda: True,
        lambda runs: delivered.extend(run.id for run in runs),
    )
    intake.start()
    offered = ids(CAPACITY)
    assert intake.offer(offered, 5)
    assert (delivered, len(room), room.free()) == (offered[:1], 1, CAPACITY - 1)
    intake.stop()


def test_room_is_taken_before_the_loop_hears_of_a_run() -> None:
    """Fails when a run that ends at once leaves before it came: its place would be lost for
    ever.
    """
    room, seen = Room(CAPACITY, 10**9, 10**4), list[int]()

    def deliver(runs: list[HeldRun]) -> None:
        seen.append(len(room))
        for run in runs:
            room.leave(run.id)

    intake = Intake(cast(Claimer, NotingClaimer()), room, lambda: UUID(int=1), lambda: True, deliver)
    intake.start()
    for _ in range(3):
        assert intake.offer(ids(CAPACITY), 5)
    intake.stop()
    assert seen == [CAPACITY] * 3
    assert (len(room), room.free()) == (0, CAPACITY)


def test_a_worker_that_came_back_under_a_new_id_claims_under_it() -> None:
    claimed_by: list[UUID] = []

    class Asking(NotingClaimer):
        def claim(
            self, worker_id: UUID, ids: Sequence[UUID], deliver: Deliver, max_losses: int = 0
        ) -> list[HeldRun]:
            claimed_by.append(worker_id)
            return super().claim(worker_id, ids, deliver, max_losses)

    names = [UUID(int=2), UUID(int=1)]
    room = Room(CAPACITY, 10**9, 10**4)
    intake = Intake(cast(Claimer, Asking()), room, names.pop, lambda: True, lambda _runs: None)
    intake.start()
    assert intake.offer(ids(1), 5)
    assert intake.offer(ids(1), 5)
    intake.stop()
    assert claimed_by == [UUID(int=1), UUID(int=2)]


def test_what_was_lost_with_a_worker_is_claimed_after_the_others(world: World) -> None:
    """Fails when suspects are claimed in the same portion, or never."""
    innocents, (suspect,) = ids(2), ids(1)
    world.claimer.losses = {suspect: 2}
    assert world.intake.offer([suspect, *innocents], 5)
    assert world.delivered == innocents
    for done in innocents:
        world.room.leave(done)
    eventually(lambda: suspect in world.delivered, 5, "the suspect's turn")
    assert world.claimer.asked[-1] == [suspect], "alone"
    assert not world.intake.offer(ids(1), 0.1), "nothing joins it"
    assert world.intake.free == 0
    world.room.leave(suspect)
    assert world.intake.offer(ids(1), 5)


def test_a_suspect_that_another_worker_got_is_not_asked_for_again(world: World) -> None:
    (suspect,) = ids(1)
    world.claimer.losses = {suspect: 1}
    assert world.intake.offer([suspect], 5)
    eventually(lambda: world.delivered == [suspect], 5, "the suspect's turn")
    world.room.leave(suspect)
    assert world.intake.offer(ids(1), 5)
    assert [suspect in asked for asked in world.claimer.asked] == [True, True, False]


def test_a_turn_ends_in_time_although_nobody_offers_anything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only an offer wakes the thread: without Redis the sweep offers nothing during a
    turn, so that one suspect that hangs would stop all deliveries."""
    monkeypatch.setattr(suspects, "TURN_SECONDS", 0.3)
    (suspect,) = ids(1)
    world.claimer.losses = {suspect: 2}
    assert world.intake.offer([suspect], 5)
    eventually(lambda: world.delivered == [suspect], 5, "the suspect's turn")
    assert world.intake.free == 0
    eventually(lambda: world.intake.free == CAPACITY - 1, 5, "room for others")
