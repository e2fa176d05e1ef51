"""How much a worker holds, in runs and in bytes."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shared.ids import new_id
from worker.engine.room import Room

CAPACITY, CAPACITY_BYTES, LARGEST_BYTES = 4, 1000, 300


def test_an_empty_worker_can_always_claim_the_largest_trigger() -> None:
    """Fails when the bytes alone decide: with a cap below one body nothing would ever run."""
    tiny = Room(capacity=100, capacity_bytes=100, largest_bytes=300)
    assert tiny.free() == 1
    tiny.take(new_id(), 250)
    assert tiny.free() == 0


def test_either_bound_is_enough() -> None:
    by_runs = Room(capacity=2, capacity_bytes=10**9, largest_bytes=1)
    by_runs.take(new_id(), 0)
    assert by_runs.free() == 1
    by_bytes = Room(capacity=100, capacity_bytes=1000, largest_bytes=300)
    by_bytes.take(new_id(), 101)
    assert by_bytes.free() == 2, "899 bytes hold two of the largest"


@pytest.mark.parametrize("held_bytes", [1001, 5000])
def test_more_than_the_capacity_held_is_no_room_and_never_less(held_bytes: int) -> None:
    room = Room(CAPACITY, CAPACITY_BYTES, LARGEST_BYTES)
    room.take(new_id(), held_bytes)
    assert room.free() == 0


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_ids_are_asked_for_once_in_their_order_and_never_while_held(asked: list[int], held: set[int]) -> None:
    room = Room(CAPACITY, CAPACITY_BYTES, LARGEST_BYTES)
    for number in held:
        room.take(UUID(int=number), 0)
    left = [trigger_id.int for trigger_id in room.without_held(UUID(int=number) for number in asked)]
    assert left == list(dict.fromkeys(number for number in asked if number not in held))


def test_whoever_waits_for_room_is_woken_when_a_run_leaves() -> None:
    room = Room(1, CAPACITY_BYTES, LARGEST_BYTES)
    held = new_id()
    room.take(held, 0)
    seen: list[int] = []
    waits = threading.Event()

    def wait() -> None:
        with room.changed:
            waits.set()
            room.wait_for_leave(5)
            seen.append(room.free())

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waits.wait(5)  # it holds the lock until it waits, so leave() comes after
    room.leave(held)
    waiter.join(2)
    assert seen == [1]


def test_whoever_waits_for_something_else_sleeps_on_when_a_run_leaves() -> None:
    """Fails when each run's end wakes the claim thread of an idle worker for nothing."""
    room = Room(2, CAPACITY_BYTES, LARGEST_BYTES)
    held = [new_id(), new_id()]
    for one in held:
        room.take(one, 0)
    woken = threading.Event()
    waits = threading.Event()

    def wait_for_an_offer() -> None:
        with room.changed:
            waits.set()
            room.changed.wait()
            woken.set()

    idle = threading.Thread(target=wait_for_an_offer, daemon=True)
    idle.start()
    assert waits.wait(5)
    room.leave(held[0])
    assert not woken.wait(0.2)
    with room.changed:
        room.wait_for_leave(0.01)
    room.leave(held[1])
    assert not woken.wait(0.2), "who has waited before does not wait any more"
    with room.changed:
        room.changed.notify_all()
    assert woken.wait(5)


class Holding(RuleBasedStateMachine):
    """Runs come and go in any order; the room adds up."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(CAPACITY, CAPACITY_BYTES, LARGEST_BYTES)
        self.sizes: dict[UUID, int] = {}

    @rule(target=held, size=st.integers(0, 600))
    def take(self, size: int) -> UUID:
        trigger_id = new_id()
        self.room.take(trigger_id, size)
        self.sizes[trigger_id] = size
        return trigger_id

    @rule(trigger_id=consumes(held))
    def leave_twice(self, trigger_id: UUID) -> None:
        self.room.leave(trigger_id)
        self.room.leave(trigger_id)
        del self.sizes[trigger_id]

    @rule()
    def a_stranger_leaves(self) -> None:
        self.room.leave(new_id())

    @invariant()
    def it_adds_up(self) -> None:
        assert len(self.room) == len(self.sizes)
        assert all(trigger_id in self.room for trigger_id in self.sizes)
        free = self.room.free()
        assert 0 <= free <= CAPACITY
        if not self.sizes:
            assert free == 3
            return
        assert (free > 0) == (
            len(self.sizes) < CAPACITY and sum(self.sizes.values()) + LARGEST_BYTES <= CAPACITY_BYTES
        )
        assert free == 0 or sum(self.sizes.values()) + free * LARGEST_BYTES <= CAPACITY_BYTES


TestHolding = Holding.TestCase
