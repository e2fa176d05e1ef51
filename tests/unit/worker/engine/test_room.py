"""How much a worker holds, in places and in bytes, and how much of that one tenant may have."""

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
A, B, C = (UUID(int=number) for number in (1, 2, 3))


def held(room: Room, user_id: UUID, places: int, size_bytes: int = 1) -> int:
    """How many places a run of this tenant gets, with as many executions side by side."""
    return room.take(new_id(), user_id, places, size_bytes)


class TestBounds:
    def test_an_empty_worker_can_always_claim_the_largest_trigger(self) -> None:
        """Fails when the bytes alone decide: with a cap below one body nothing would ever run."""
        tiny = Room(capacity=100, capacity_bytes=100, largest_bytes=300)
        assert tiny.free() == 1
        assert held(tiny, A, 1, 250) == 1
        assert tiny.free() == 0

    def test_either_bound_is_enough(self) -> None:
        by_places = Room(capacity=2, capacity_bytes=10**9, largest_bytes=1)
        held(by_places, A, 1)
        assert by_places.free() == 1
        by_bytes = Room(capacity=100, capacity_bytes=1000, largest_bytes=300, reserved_share=0)
        held(by_bytes, A, 1, 101)
        assert by_bytes.free() == 2, "899 bytes hold two of the largest"

    @pytest.mark.parametrize("held_bytes", [1001, 5000])
    def test_more_than_the_capacity_held_is_no_room_and_never_less(self, held_bytes: int) -> None:
        room = Room(CAPACITY, CAPACITY_BYTES, LARGEST_BYTES)
        held(room, A, 1, held_bytes)
        assert (room.free(), room.free(A), room.free(B)) == (0, 0, 0)

    def test_what_a_run_holds_may_grow_and_shrink(self) -> None:
        """Fails when the responses of its receivers are counted nowhere."""
        room = Room(capacity=100, capacity_bytes=1000, largest_bytes=100, reserved_share=0)
        one = new_id()
        room.take(one, A, 1, 100)
        room.grow(one, 700)
        assert room.free() == 2
        room.grow(one, -700)
        assert room.free() == 9
        room.grow(one, 500)
        room.leave(one)
        assert room.free() == 10
        room.grow(one, 500)
        assert room.free() == 10, "it has left"


class TestTenants:
    @pytest.mark.parametrize("capacity", [10, 50, 500])
    def test_one_alone_fills_four_fifths_and_the_rest_is_for_others(self, capacity: int) -> None:
        room = Room(capacity, 10**9, 1)
        got = [held(room, A, 1) for _ in range(capacity)]
        assert sum(got) == capacity * 4 // 5
        assert (room.free(A), room.free(B)) == (0, capacity // 5)
        assert [held(room, B, 1) for _ in range(capacity // 5)] == [1] * (capacity // 5)
        assert (room.free(B), room.free(C)) == (0, 0)

    def test_whoever_holds_a_fifth_takes_no_more_of_the_reserve(self) -> None:
        room = Room(10, 10**9, 1)
        for _ in range(6):
            held(room, A, 1)
        assert [held(room, B, 1) for _ in range(4)] == [1, 1, 0, 0], "of the common part"
        assert held(room, C, 1) == 1
        assert held(room, A, 1) == 0

    def test_what_is_common_is_free_to_whoever_comes(self) -> None:
        room = Room(10, 10**9, 1)
        assert [held(room, tenant, 1) for tenant in (A, B) * 4] == [1] * 8
        assert (room.free(A), room.free(B), room.free(C)) == (0, 0, 2)

    def test_bytes_are_shared_likewise(self) -> None:
        """Fails when the large bodies of one tenant leave no room for a small one of another."""
        room = Room(1_000, 1_000, 100)
        while held(room, A, 1, 100):
            pass
        assert (len(room), room.free(A), room.free(B)) == (8, 0, 2)
        assert held(room, B, 1, 150) == 1

    def test_without_a_reserve_one_may_have_everything(self) -> None:
        room = Room(10, 10**9, 1, reserved_share=0)
        assert sum(held(room, A, 1) for _ in range(11)) == 10

    def test_who_is_full_is_known_while_others_are_not(self) -> None:
        room = Room(10, 10**9, 1)
        held(room, B, 1)
        for _ in range(6):
            held(room, A, 1)
        assert room.full_for() == []
        held(room, A, 1)
        assert room.full_for() == [A]
        held(room, B, 1)
        assert set(room.full_for()) == {A, B}


class TestSteps:
    """A run takes as many places as its largest step has executions."""

    def test_a_run_takes_all_its_places_or_waits(self) -> None:
        room = Room(50, 10**9, 1)
        assert held(room, A, 30) == 30
        assert held(room, A, 30) == 0
        assert held(room, A, 10) == 10
        assert held(room, B, 10) == 10

    def test_no_run_takes_more_than_one_tenant_may_have(self) -> None:
        assert held(Room(10, 10**9, 1), A, 100) == 8
        assert held(Room(2, 10**9, 1), A, 100) == 2
        assert held(Room(1, 10**9, 1), A, 100) == 1

    def test_who_holds_nothing_takes_what_there_is(self) -> None:
        """Fails when a tenant with a broad step waits for as long as another's receivers hang."""
        room = Room(10, 10**9, 1)
        held(room, A, 100)
        assert held(room, B, 5) == 2
        assert held(room, C, 5) == 0, "nothing is left"

    def test_a_run_without_executions_takes_a_place(self) -> None:
        assert held(Room(10, 10**9, 1), A, 0) == 1


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_ids_are_asked_for_once_in_their_order_and_never_while_held(asked: list[int], held: set[int]) -> None:
    room = Room(100, CAPACITY_BYTES, LARGEST_BYTES)
    for number in held:
        room.take(UUID(int=number), A, 1, 1)
    left = [trigger_id.int for trigger_id in room.without_held(UUID(int=number) for number in asked)]
    assert left == list(dict.fromkeys(number for number in asked if number not in held))


def test_whoever_waits_for_room_is_woken_when_a_run_leaves() -> None:
    room = Room(1, CAPACITY_BYTES, LARGEST_BYTES)
    one = new_id()
    room.take(one, A, 1, 1)
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
    room.leave(one)
    waiter.join(2)
    assert seen == [1]


def test_whoever_waits_for_something_else_sleeps_on_when_a_run_leaves() -> None:
    """Fails when each run's end wakes the claim thread of an idle worker for nothing."""
    room = Room(2, CAPACITY_BYTES, LARGEST_BYTES)
    ids = [new_id(), new_id()]
    for one in ids:
        room.take(one, A, 1, 1)
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
    room.leave(ids[0])
    assert not woken.wait(0.2)
    with room.changed:
        room.wait_for_leave(0.01)
    room.leave(ids[1])
    assert not woken.wait(0.2), "who has waited before does not wait any more"
    with room.changed:
        room.changed.notify_all()
    assert woken.wait(5)


class Holding(RuleBasedStateMachine):
    """Runs of three tenants come and go in any order; the room adds up, and keeps its promises."""

    runs = Bundle("runs")
    capacity, capacity_bytes, largest_bytes = 20, 2_000, 100

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(self.capacity, self.capacity_bytes, self.largest_bytes)
        self.held: dict[UUID, tuple[UUID, int, int]] = {}

    def of(self, tenant: UUID | None, what: int) -> int:
        return sum((run[1], run[2])[what - 1] for run in self.held.values() if tenant in (None, run[0]))

    @rule(target=runs, tenant=st.sampled_from([A, B, C]), places=st.integers(0, 25), size=st.integers(1, 100))
    def take(self, tenant: UUID, places: int, size: int) -> UUID:
        trigger_id, free = new_id(), self.room.free(tenant)
        fits = self.room.fitting(tenant, places, size)
        got = self.room.take(trigger_id, tenant, places, size)
        assert got == fits
        assert got <= max(places, 1)
        if free and max(places, 1) <= free:
            assert got == max(places, 1)
        if got:
            self.held[trigger_id] = (tenant, got, size)
            assert self.of(None, 1) <= 16 or self.of(tenant, 1) <= 4, "the reserve is for the small"
            assert self.of(None, 2) <= 1_600 or self.of(tenant, 2) <= 400
        return trigger_id

    @rule(trigger_id=consumes(runs))
    def leave_twice(self, trigger_id: UUID) -> None:
        self.room.leave(trigger_id)
        self.room.leave(trigger_id)
        self.held.pop(trigger_id, None)

    @rule()
    def a_stranger_leaves(self) -> None:
        self.room.leave(new_id())

    @invariant()
    def it_adds_up(self) -> None:
        assert len(self.room) == len(self.held)
        assert all(trigger_id in self.room for trigger_id in self.held)
        assert self.of(None, 1) <= self.capacity
        for tenant in (A, B, C):
            assert 0 <= self.room.free(tenant) <= self.room.free() <= self.capacity
            assert self.of(tenant, 1) <= self.room.most_for_one


TestHolding = Holding.TestCase
