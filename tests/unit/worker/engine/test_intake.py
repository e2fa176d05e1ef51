"""The intake, with a claimer that only notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast
from uuid import UUID

import psycopg2
import pytest

from shared.ids import new_id
from tests.running import eventually
from tests.unit.worker.actions.test_http_post import context
from worker.engine.claim import Claimer
from worker.engine.intake import Intake
from worker.engine.room import Room
from worker.engine.state import Run

CAPACITY = 5


class NotingClaimer:
    """Claims everything it is asked to, after the gate opens."""

    def __init__(self) -> None:
        self.asked: list[list[UUID]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception] = []

    def claim(self, worker_id: UUID, ids: Sequence[UUID]) -> list[Run]:
        assert self.gate.wait(5)
        self.asked.append(list(ids))
        if self.failures:
            raise self.failures.pop()
        base = context()
        return [Run(replace(base.trigger, id=i), base.callback, worker_id, 1, 0, []) for i in ids]

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
    """Fails when the offers of a claim that is not made any more are forgotten: Celery's pool would hang."""
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
