"""The intake, with a claimer that only notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg2
import pytest

from shared.ids import new_id
from tests.running import eventually
from tests.unit.worker.actions.test_http_post import context
from worker.engine import waiting
from worker.engine.claim import Claimable, Claimer
from worker.engine.intake import MAX_CLAIM_IDS, Intake
from worker.engine.room import Room
from worker.engine.state import HeldRun
from worker.engine.waiting import Wanted

CAPACITY = 5
TENANT, OTHER = UUID(int=7), UUID(int=8)

Deliver = Callable[[list[HeldRun]], None]


class NotingClaimer:
    """Claims everything it is asked to that has room, after the gate opens."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.asked: list[list[UUID]] = []
        self.not_of: list[set[UUID]] = []
        self.tenants: dict[UUID, UUID] = {}
        self.places: dict[UUID, int] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.losses: dict[UUID, int] = {}
        self.looked_at: list[UUID] = []

    def claim(
        self,
        worker_id: UUID,
        ids: Sequence[UUID],
        deliver: Deliver,
        max_losses: int = 0,
        not_of: Collection[UUID] = (),
        turned_away: Callable[[dict[UUID, Wanted]], None] = lambda _wanted: None,
    ) -> list[HeldRun]:
        assert self.gate.wait(5)
        self.asked.append(list(ids))
        self.not_of.append(set(not_of))
        if self.failures:
            raise self.failures.pop()
        runs, without_room = list[HeldRun](), dict[UUID, Wanted]()
        for one in ids:
            trigger = replace(context().trigger, id=one, user_id=self.tenants.get(one, TENANT))
            run = HeldRun(trigger, context().callback, worker_id, 1, self.losses.get(one, 0), [])
            if run.losses > max_losses or trigger.user_id in not_of:
                continue
            wanted = Wanted(trigger.user_id, self.places.get(one, 1), 1)
            if self.room.take(one, *wanted):
                runs.append(run)
            else:
                without_room[one] = wanted
        deliver(runs)
        turned_away(without_room)
        return runs

    def claimable(self, ids: Sequence[UUID]) -> list[Claimable]:
        self.looked_at += ids
        return [Claimable(i, self.tenants.get(i, TENANT), self.losses.get(i, 0)) for i in ids]

    def close(self) -> None: ...


class World:
    """An intake and everything around it."""

    def __init__(self, reserved_share: float = 0) -> None:
        self.suspects: dict[UUID, int] = {}
        self.room = Room(CAPACITY, 10**9, 10**4, reserved_share)
        self.claimer = NotingClaimer(self.room)
        self.delivered: list[UUID] = []
        self.lease = True
        self.intake = Intake(
            cast(Claimer, self.claimer),
            self.room,
            lambda: UUID(int=1),
            lambda: self.lease,
            lambda runs: self.delivered.extend(run.id for run in runs),
            suspected=self.suspects.update,
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


def test_what_is_kept_is_claimed_in_turns_and_looked_at_by_nobody_before(world: World) -> None:
    """Fails when what the sweep hands over is read once more before it waits."""
    held, mine, others, suspect = ids(CAPACITY), ids(CAPACITY), ids(2), ids(1)[0]
    world.claimer.tenants = dict.fromkeys(others, OTHER)
    world.claimer.losses = {suspect: 1}
    assert world.intake.offer(held, 5)
    assert world.intake.keep(
        {one: OTHER if one in others else TENANT for one in (*held, *mine, suspect, *others)}
    )
    assert world.claimer.asked == [held]
    for left, expected in ((held, mine), (mine[:2], others)):
        for one in left:
            world.room.leave(one)
        eventually(lambda: set(expected) <= set(world.delivered), 5, "what is next")  # noqa: B023
    assert world.delivered == [*held, *mine, *others]
    assert world.claimer.looked_at == []
    world.room.leave(mine[2])
    eventually(lambda: world.suspects == {suspect: 1}, 5, "the suspect")


def test_nothing_is_kept_after_the_end(world: World) -> None:
    world.intake.stop()
    assert not world.intake.keep({ids(1)[0]: TENANT})


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


def _has_offers(world: World, number: int) -> bool:
    return len(world.intake._offers) == number


def _has_delivered(world: World, expected: list[UUID]) -> bool:
    return world.delivered == expected


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
    roomy = Room(10_000, 10**9, 1, 0)
    claimer = NotingClaimer(roomy)
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
        def claim(self, worker_id: UUID, ids: Sequence[UUID], *others: Any) -> list[HeldRun]:
            return super().claim(worker_id, ids[:1], *others)

    room = Room(CAPACITY, 10**9, 10**4, 0)
    claimer = Beaten(room)
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
    room, seen = Room(CAPACITY, 10**9, 10**4, 0), list[int]()

    def deliver(runs: list[HeldRun]) -> None:
        seen.append(len(room))
        for run in runs:
            room.leave(run.id)

    intake = Intake(cast(Claimer, NotingClaimer(room)), room, lambda: UUID(int=1), lambda: True, deliver)
    intake.start()
    for _ in range(3):
        assert intake.offer(ids(CAPACITY), 5)
    intake.stop()
    assert seen == [CAPACITY] * 3
    assert (len(room), room.free()) == (0, CAPACITY)


def test_a_worker_that_came_back_under_a_new_id_claims_under_it() -> None:
    claimed_by: list[UUID] = []

    class Asking(NotingClaimer):
        def claim(self, worker_id: UUID, *others: Any) -> list[HeldRun]:
            claimed_by.append(worker_id)
            return super().claim(worker_id, *others)

    names = [UUID(int=2), UUID(int=1)]
    room = Room(CAPACITY, 10**9, 10**4)
    intake = Intake(cast(Claimer, Asking(room)), room, names.pop, lambda: True, lambda _runs: None)
    intake.start()
    assert intake.offer(ids(1), 5)
    assert intake.offer(ids(1), 5)
    intake.stop()
    assert claimed_by == [UUID(int=1), UUID(int=2)]


class TestSuspects:
    def test_what_was_lost_with_a_worker_is_not_claimed_and_told_of(self, world: World) -> None:
        """Fails when suspects are claimed beside others, or forgotten."""
        innocents, (once, twice) = ids(2), ids(2)
        world.claimer.losses = {once: 1, twice: 2}
        assert world.intake.offer([once, *innocents, twice], 5)
        assert world.delivered == innocents
        assert world.suspects == {once: 1, twice: 2}
        assert world.intake.offer(ids(1), 5)
        assert len(world.claimer.asked) == 2, "they are not asked for again"

    def test_their_own_process_claims_them_up_to_its_bound(self) -> None:
        room = Room(CAPACITY, 10**9, 10**4, 0)
        claimer, told = NotingClaimer(room), dict[UUID, int]()
        intake = Intake(
            cast(Claimer, claimer),
            room,
            lambda: UUID(int=1),
            lambda: True,
            lambda _runs: None,
            max_losses=1,
            suspected=told.update,
        )
        intake.start()
        once, twice = ids(2)
        claimer.losses = {once: 1, twice: 2}
        assert intake.offer([once, twice], 5)
        assert (once in room, twice in room, told) == (True, False, {twice: 2})
        intake.stop()


class TestTenants:
    """A capacity of 5, of which 1 is only for tenants that hold nothing."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        world = World(reserved_share=0.2)
        yield world
        world.claimer.gate.set()
        world.intake.stop()

    def test_one_fills_its_part_and_the_rest_waits_apart(self, world: World) -> None:
        """Fails when its backlog keeps a hint task, behind which others' hints wait."""
        offered = ids(20)
        assert world.intake.offer(offered, 5), "all was looked at"
        assert world.delivered == offered[:4]
        (others,) = ids(1)
        world.claimer.tenants = {others: OTHER}
        assert world.intake.offer([others], 5)
        assert world.delivered == [*offered[:4], others]

    def test_what_waits_is_claimed_in_its_order_when_its_tenant_has_room(self, world: World) -> None:
        offered = ids(10)
        assert world.intake.offer(offered[:6], 5)
        assert world.intake.offer(offered[6:], 5)
        for number, one in enumerate(offered):
            world.room.leave(one)
            expected = offered[: min(number + 5, 10)]
            eventually(partial(_has_delivered, world, expected), 5, "the next in line")
        eventually(lambda: world.intake.is_idle, 5, "nothing left")

    def test_a_newer_one_does_not_overtake_what_waits(self, world: World) -> None:
        offered = ids(5)
        assert world.intake.offer(offered, 5)
        world.lease = False
        world.room.leave(offered[0])
        threading.Thread(target=world.intake.offer, args=([newer := new_id()], 5), daemon=True).start()
        eventually(partial(_has_offers, world, 1), 5, "the offer to arrive")
        world.intake._waiting_had_a_turn = True  # it is the newer ones' turn
        world.lease = True
        world.room.leave(offered[1])
        eventually(lambda: newer in world.delivered, 5, "both")
        assert world.delivered == [*offered, newer]

    def test_nobody_is_asked_for_again_and_again_who_has_no_room(self, world: World) -> None:
        assert world.intake.offer(ids(50), 5)
        asked = len(world.claimer.asked)
        assert not threading.Event().wait(0.3)
        assert len(world.claimer.asked) == asked

    def test_a_run_with_a_broad_step_waits_until_it_fits(self, world: World) -> None:
        first, broad = ids(2)
        world.claimer.places = {first: 3, broad: 4}
        assert world.intake.offer([first, broad], 5)
        assert world.delivered == [first]
        world.room.leave(first)
        eventually(lambda: broad in world.delivered, 5, "its places")

    def test_tenants_take_turns(self, world: World) -> None:
        """Fails when whoever came first has all places that become free."""
        many, few = ids(12), ids(4)
        world.claimer.tenants = dict.fromkeys(few, OTHER)
        world.claimer.places = {few[1]: 4}  # it waits for as much as one tenant may have
        assert world.intake.offer(many, 5)
        offering = threading.Thread(target=world.intake.offer, args=(few, 5))
        offering.start()
        eventually(lambda: few[0] in world.delivered, 5, "the other's first")
        for one in [*many[:4], few[0]]:
            world.room.leave(one)
        offering.join(5)
        assert not offering.is_alive()
        eventually(lambda: {many[4], few[1]} & set(world.delivered), 5, "one of either")
        for one in many[4:]:
            eventually(lambda: few[1] in world.delivered or len(world.delivered) > 5, 5, "the next")
            world.room.leave(one)
        eventually(lambda: few[1] in world.delivered, 5, "the other's turn")

    def test_too_much_of_a_tenant_is_forgotten_and_said(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "MAX_OF_TENANT", 3)
        offered, (others,) = ids(20), ids(1)
        assert world.intake.offer(offered, 5)
        assert world.intake.crowded() == [TENANT]
        world.claimer.tenants = {others: OTHER}
        assert world.intake.offer([others], 5)
        for one in offered[:4]:
            world.room.leave(one)
        eventually(lambda: world.delivered == [*offered[:4], others, *offered[4:7]], 5, "what was kept")
        assert world.intake.crowded() == []
