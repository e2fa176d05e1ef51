"""The process's idea of PostgreSQL's time: shifted by what was measured, and by nothing else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import SAMPLES, DatabaseClock

START_NS = 1_790_000_000_123_456_000
SECOND_NS = 1_000_000_000


class World:
    """A host and a server whose clocks differ, and a network between them that takes its time."""

    def __init__(self, ahead_ns: int = 0, trips_ns: list[tuple[int, int]] | None = None) -> None:
        self.true_ns = START_NS
        self.ahead_ns = ahead_ns
        self.trips_ns = trips_ns or []
        self.wall_jumps_ns = 0
        self.asked = 0

    def clock(self) -> DatabaseClock:
        return DatabaseClock(wall_ns=self.wall_ns, steady_ns=lambda: self.true_ns)

    def wall_ns(self) -> int:
        return self.true_ns + self.wall_jumps_ns

    def execute(self, query: str) -> None:
        assert "clock_timestamp()" in query, "now() stands still inside a transaction"
        there, back = self.trips_ns[self.asked % len(self.trips_ns)] if self.trips_ns else (0, 0)
        self.asked += 1
        self.true_ns += there
        self.answer_us = (self.true_ns + self.ahead_ns) // 1000
        self.true_ns += back

    def fetchone(self) -> tuple[int]:
        return (self.answer_us,)

    def server_ns(self) -> int:
        return self.true_ns + self.ahead_ns


def test_before_the_first_measurement_it_is_the_hosts_clock() -> None:
    world = World(ahead_ns=SECOND_NS)
    clock = world.clock()
    assert clock.now_ms() == world.true_ns // 1_000_000
    assert not clock.is_measured


def test_after_it_it_is_the_servers() -> None:
    world = World(ahead_ns=90 * SECOND_NS)
    clock = world.clock()
    assert clock.measure(world) == clock.offset_ms == 90_000
    assert clock.now_ms() == world.server_ns() // 1_000_000
    assert clock.now() == datetime.fromtimestamp((world.server_ns() // 1000) / 1e6, UTC)
    assert clock.now().tzinfo is UTC
    assert clock.is_measured


def test_it_runs_on_between_measurements() -> None:
    world = World(ahead_ns=-5 * SECOND_NS)
    clock = world.clock()
    clock.measure(world)
    world.true_ns += 3600 * SECOND_NS
    assert clock.now_ms() == world.server_ns() // 1_000_000


trip = st.integers(min_value=0, max_value=5 * SECOND_NS)


@given(
    ahead=st.integers(min_value=-(10**15), max_value=10**15),
    trips=st.lists(st.tuples(trip, trip), min_size=SAMPLES, max_size=SAMPLES),
)
def test_it_is_off_by_at_most_half_of_the_quickest_round_trip(
    ahead: int, trips: list[tuple[int, int]]
) -> None:
    world = World(ahead, trips)
    clock = world.clock()
    clock.measure(world)
    error_ns = abs(clock.offset_ms * 1e6 - ahead)
    assert error_ns <= min(there + back for there, back in trips) / 2 + 1_001  # 1 µs: PostgreSQL's resolution


def test_a_host_clock_that_is_set_changes_nothing() -> None:
    """Fails when the wall clock is what runs on between measurements."""
    world = World(ahead_ns=SECOND_NS)
    clock = world.clock()
    clock.measure(world)
    world.wall_jumps_ns = 30 * SECOND_NS
    assert clock.now_ms() == world.server_ns() // 1_000_000


def test_a_new_measurement_replaces_the_old_one() -> None:
    world = World(ahead_ns=SECOND_NS)
    clock = world.clock()
    clock.measure(world)
    world.ahead_ns = -3 * SECOND_NS  # somebody sets the server's clock
    assert clock.now_ms() == (world.server_ns() + 4 * SECOND_NS) // 1_000_000
    clock.measure(world)
    assert clock.now_ms() == world.server_ns() // 1_000_000


def test_a_measurement_that_fails_leaves_the_old_one() -> None:
    world = World(ahead_ns=SECOND_NS)
    clock = world.clock()
    clock.measure(world)

    class Broken(World):
        def execute(self, query: str) -> None:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        clock.measure(Broken())
    assert clock.offset_ms == 1000


def test_readers_see_the_old_offset_or_the_new_one_and_nothing_between() -> None:
    world = World()
    clock = DatabaseClock(wall_ns=lambda: START_NS, steady_ns=lambda: START_NS)
    allowed = {START_NS // 1_000_000 + offset for offset in (0, 1000, 2000)}
    seen: set[int] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(clock.now_ms())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for round_ in range(2000):
        world.true_ns = START_NS
        world.ahead_ns = (1 + round_ % 2) * SECOND_NS
        clock.measure(world)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= allowed
