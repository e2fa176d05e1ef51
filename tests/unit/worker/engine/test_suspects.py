"""The turns of suspects, with a clock of our own."""

from __future__ import annotations

from uuid import UUID

import pytest

from shared.ids import new_id
from worker.engine.room import Room
from worker.engine.suspects import (
    MAX_OTHERS,
    MAX_WAITING,
    NO_BOUND,
    QUIET_SECONDS,
    TURN_SECONDS,
    Allowance,
    Suspects,
)

CAPACITY = 100


class World:
    """Suspects, the room and the time."""

    def __init__(self) -> None:
        self.room = Room(CAPACITY, 10**9, 1)
        self.now = 0.0
        self.suspects = Suspects(self.room, lambda: self.now)
        self.losses: dict[UUID, int] = {}

    def enter(self, count: int) -> list[UUID]:
        """Ordinary runs."""
        made = [new_id() for _ in range(count)]
        for one in made:
            self.room.take(one, 1)
        return made

    def leave(self, ids: list[UUID]) -> None:
        for one in ids:
            self.room.leave(one)

    def find(self, *losses: int) -> list[UUID]:
        made = [new_id() for _ in losses]
        found = dict(zip(made, losses, strict=True))
        self.losses |= found
        self.suspects.found(found)
        return made

    def allowance(self, others_wait: bool = True) -> Allowance:
        """The allowance, once PostgreSQL has confirmed every suspect."""
        allowance = self.suspects.allowance(others_wait)
        if not allowance.unconfirmed:
            return allowance
        self.suspects.confirm(dict.fromkeys(allowance.unconfirmed, 1) | self.losses)
        return self.suspects.allowance(others_wait)

    def claim(self, others_wait: bool = True) -> list[UUID]:
        """Do what the allowance says of suspects."""
        allowance = self.allowance(others_wait)
        self.suspects.forget(allowance.suspects)
        for one in allowance.suspects:
            self.room.take(one, 1)
            self.suspects.came(one, 2 if allowance.max_losses == NO_BOUND else 1)
        return list(allowance.suspects)


@pytest.fixture
def world() -> World:
    return World()


def test_without_suspects_there_are_no_turns(world: World) -> None:
    world.enter(7)
    assert world.allowance(True) == Allowance(ordinary=CAPACITY - 7)
    assert not world.suspects.in_turn


def test_a_run_lost_once_shares_the_process_with_few(world: World) -> None:
    others = world.enter(MAX_OTHERS + 1)
    found = world.find(*[1] * 20)
    assert world.claim() == [], "too many others are in"
    assert world.allowance(True).ordinary == 0, "and no more come"
    world.leave(others[:2])
    assert world.claim() == found[:2]
    assert world.claim() == [], "eleven are in"
    world.leave(found[:2] + others[2:])
    assert world.claim() == found[2 : MAX_OTHERS + 3]


def test_a_run_lost_twice_is_alone(world: World) -> None:
    others = world.enter(1)
    first, second = world.find(2, 3)
    assert world.claim() == []
    world.leave(others)
    assert world.claim() == [first]
    assert world.allowance(True) == Allowance(), "nobody joins it, not even another suspect"
    world.leave([first])
    assert world.claim() == [second]


def test_the_last_suspects_of_a_turn_let_a_few_others_in(world: World) -> None:
    world.find(1)
    world.claim()
    assert world.allowance(True) == Allowance(ordinary=MAX_OTHERS)


def test_a_turn_is_followed_by_an_ordinary_time_as_long(world: World) -> None:
    """Fails without the pause: a stream of suspects would keep everybody else out."""
    (slow,) = world.find(2)
    world.claim()
    world.now += TURN_SECONDS
    (late,) = world.find(2)
    assert world.allowance(True).ordinary == CAPACITY - 1, "the turn is over although it still runs"
    world.now += TURN_SECONDS - 1
    assert world.claim() == []
    world.leave([slow])
    world.now += 1
    assert world.claim() == [late]


def test_nobody_pauses_for_nobody(world: World) -> None:
    world.find(2)
    world.leave(world.claim())
    world.now += QUIET_SECONDS + 1
    world.allowance(False)
    world.now += QUIET_SECONDS
    found = world.find(2)
    assert world.claim(others_wait=False) == found


def test_after_a_turn_others_have_the_time_to_come(world: World) -> None:
    """Fails when the next turn begins at once because nobody waits: without Redis only the sweep
    can offer, and it offers nothing during a turn."""
    world.find(2)
    world.leave(world.claim())
    world.now += TURN_SECONDS
    world.allowance(False)
    world.find(2)
    world.now += QUIET_SECONDS - 0.1
    assert world.claim(others_wait=False) == []
    assert world.allowance(True).ordinary > 0


def test_turns_in_which_the_room_does_not_empty_grow(world: World) -> None:
    """Fails without the growth: attempts that hang for longer than a turn would keep suspects out
    for ever.
    """
    others = world.enter(1)
    found = world.find(2)
    world.claim()
    for length in (TURN_SECONDS, TURN_SECONDS * 2):
        world.now += length
        world.allowance(True)
        assert not world.suspects.in_turn
        world.now += length
        world.claim()
        assert world.suspects.in_turn
    world.now += TURN_SECONDS * 3.9
    world.leave(others)
    assert world.claim() == found


def test_a_run_with_many_losses_has_the_process_for_longer(world: World) -> None:
    """Fails without it: a payload that kills late would always be lost in company."""
    (one,) = world.find(4)
    world.room.take(one, 1)
    world.allowance(False)
    world.suspects.forget([one])
    world.suspects.came(one, 4)
    world.now += TURN_SECONDS * 3.9
    assert world.allowance(True) == Allowance()


def test_no_more_are_remembered_than_the_bound(world: World) -> None:
    world.find(*[1] * (MAX_WAITING + 5))
    claimed = 0
    for _ in range(2 * MAX_WAITING):
        got = world.claim(others_wait=False)
        claimed += len(got)
        world.leave(got)
        world.now += QUIET_SECONDS
    assert claimed == MAX_WAITING


def test_a_suspect_that_has_ended_elsewhere_costs_no_turn(world: World) -> None:
    """Fails when a turn begins for whatever was a suspect once: the worker would empty itself for
    nothing.
    """
    world.enter(1)
    gone, left = world.find(2, 2)
    assert world.suspects.allowance(True) == Allowance(unconfirmed=(gone, left)), "first PostgreSQL is asked"
    assert not world.suspects.in_turn
    world.suspects.confirm({})
    assert world.suspects.allowance(True) == Allowance(ordinary=CAPACITY - 1)
    assert not world.suspects.wait
