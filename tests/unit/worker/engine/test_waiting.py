"""What was offered and has to wait for its tenant's part of the worker."""

from __future__ import annotations

from uuid import UUID

import pytest

from shared.ids import new_id
from worker.engine import waiting
from worker.engine.room import Room
from worker.engine.waiting import Waiting, Wanted

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def wait(one: Waiting, user_id: UUID, count: int = 1, places: int = 1, size_bytes: int = 1) -> list[UUID]:
    ids = [new_id() for _ in range(count)]
    for trigger_id in ids:
        one.add(trigger_id, user_id)
    if (places, size_bytes) != (1, 1):  # somebody has looked at them
        again = Waiting()
        again.turned_away({trigger_id: Wanted(user_id, places, size_bytes) for trigger_id in ids})
        one._of[user_id] = again._of[user_id]
    return ids


def roomy(capacity: int = 10) -> Room:
    return Room(capacity, 10**9, 1, 0)


def test_a_tenants_runs_keep_their_order_and_come_as_many_as_fit() -> None:
    one, room = Waiting(), roomy(10)
    ids = wait(one, A, 12)
    room.take(new_id(), A, 3, 1)
    assert one.take(room, 100) == ids[:7]
    assert one.take(room, 4) == ids[7:11], "the room is not taken by asking"
    assert one.take(room, 100) == ids[11:]
    assert (one.take(room, 100), len(one), one.tenants()) == ([], 0, [])


def test_tenants_take_turns() -> None:
    one, room = Waiting(), roomy(2)
    first, second = wait(one, A, 4), wait(one, B, 3)
    assert [one.take(room, 2) for _ in range(4)] == [first[:2], second[:2], first[2:], second[2:]]


def test_who_does_not_fit_holds_nobody_up() -> None:
    one, room = Waiting(), Room(10, 10**9, 1)
    room.take(new_id(), A, 8, 1)
    wait(one, A, 3)
    (other,) = wait(one, B)
    assert one.take(room, 100) == [other]
    assert one.take(room, 100) == []


@pytest.mark.parametrize(("places", "size_bytes"), [(4, 1), (1, 300)])
def test_no_more_come_than_there_are_places_and_bytes(places: int, size_bytes: int) -> None:
    one, room = Waiting(), Room(10, 800, 1, 0)
    room.take(new_id(), A, 1, 1)
    ids = wait(one, A, 5, places, size_bytes)
    assert one.take(room, 100) == ids[:2]


def test_what_is_broader_than_the_room_comes_alone() -> None:
    one = Waiting()
    first, second = wait(one, A, 2, 100)
    assert [one.take(roomy(10), 100) for _ in range(2)] == [[first], [second]]


@pytest.mark.parametrize(("places", "size_bytes", "fits"), [(30, 1, 13), (1, 200_000, 5), (1, 1, 7)])
def test_what_fits_is_taken_however_little_it_is(places: int, size_bytes: int, fits: int) -> None:
    """Fails when a few broad or large runs wait for more room than there can be."""
    one, room = Waiting(), Room(500, 1_000_001, 1)
    if fits == 7:
        room.take(new_id(), A, 393, 1)
    ids = wait(one, A, 100, places, size_bytes)
    assert one.take(room, 200) == ids[:fits]


def test_the_same_run_waits_once() -> None:
    one = Waiting()
    (trigger_id,) = wait(one, A)
    one.add(trigger_id, A)
    assert len(one) == 1
    assert one.take(roomy(), 100) == [trigger_id]


def test_what_is_too_much_is_forgotten_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a backlog grows in a worker's memory without a bound."""
    monkeypatch.setattr(waiting, "MAX_OF_TENANT", 3)
    monkeypatch.setattr(waiting, "MAX_WAITING", 5)
    one, room = Waiting(), roomy(100)
    first = wait(one, A, 4)
    assert (len(one), one.full_for()) == (3, [A])
    second = wait(one, B, 2)
    assert (len(one), one.full_for()) == (5, [A, B])
    wait(one, C)
    assert C not in one.tenants()
    assert one.take(room, 100) == first[:3]
    assert one.full_for() == []
    assert one.take(room, 100) == second


def test_what_is_turned_away_keeps_its_place_and_speaks_for_the_others() -> None:
    """Fails when a tenant's runs overtake one another, or each is tried in vain."""
    one, room = Waiting(), Room(10, 10**9, 1, 0)
    ids = wait(one, A, 6)
    first = one.take(room, 2)
    room.take(new_id(), A, 4, 1)
    one.turned_away({trigger_id: Wanted(A, 3, 1) for trigger_id in first})
    assert one.take(room, 100) == ids[:2], "two of three places each"
    room.take(new_id(), A, 3, 1)
    assert one.take(room, 100) == ids[2:3], "the others are taken for like them"
    assert one.take(roomy(10), 100) == ids[3:6]
