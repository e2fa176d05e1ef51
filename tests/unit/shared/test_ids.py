"""Keys: in order of time, in the right partition, and never the same twice."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import database_clock
from shared.ids import day_bounds, execution_id, first_id_of, new_id, trigger_range

ROOT = Path(__file__).parents[3]
MS_OF_2100 = 4_102_444_800_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

moments_ms = st.integers(min_value=0, max_value=MS_OF_2100)
keys = st.builds(new_id, moments_ms)
days = st.dates(min_value=date(1970, 1, 1), max_value=date(2100, 1, 1))


@given(moments_ms)
def test_a_key_is_a_uuid_of_version_7_with_its_moment_in_front(now_ms: int) -> None:
    key = new_id(now_ms)
    assert type(key) is UUID, "psycopg2 and SQLAlchemy know no other"
    assert (key.version, key.variant) == (7, RFC_4122)
    assert key.int >> 80 == now_ms


def test_the_moment_is_the_databases_now() -> None:
    before = database_clock.now_ms()
    key = new_id()
    assert before <= key.int >> 80 <= database_clock.now_ms()


def test_the_clocks_offset_moves_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    in_an_hour_ns = time.time_ns() + 3600 * 1_000_000_000
    monkeypatch.setattr(database_clock, "_offset_ns", in_an_hour_ns - time.perf_counter_ns())
    ahead_ms = (new_id().int >> 80) - datetime.now(UTC).timestamp() * 1000
    assert ahead_ms == pytest.approx(3_600_000, abs=5_000)


def test_keys_of_one_moment_differ() -> None:
    assert len({new_id(1) for _ in range(10_000)}) == 10_000


def test_a_moment_before_1970_lies_below_every_key() -> None:
    assert first_id_of(datetime(1950, 1, 1, tzinfo=UTC)) == UUID(int=0)


def test_a_moment_before_1970_has_no_key() -> None:
    with pytest.raises(OverflowError):
        new_id(-1)


FORK = """
import os
from shared.ids import new_id
new_id(1)  # so that the generator has a state to inherit
for child in range(2):
    if os.fork() == 0:
        os.write(1, b"%d\\n" % new_id(1).int)
        os._exit(0)
    os.wait()
os.write(1, b"%d\\n" % new_id(1).int)
"""


def test_a_forked_process_makes_other_keys() -> None:
    # in a process of its own: pytest's may have threads, with which one should not fork
    forked = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, cwd=ROOT)
    assert len(set(forked.stdout.split())) == 3


@given(first=moments_ms, second=moments_ms)
def test_keys_are_in_order_of_time(first: int, second: int) -> None:
    if first < second:
        assert new_id(first) < new_id(second)


@given(key=keys, count=st.integers(min_value=1, max_value=50))
def test_the_executions_of_a_trigger_differ_and_share_its_first_12_bytes(key: UUID, count: int) -> None:
    made = [execution_id(key, rank) for rank in range(count)]
    assert len(set(made)) == count
    assert {each.bytes[:12] for each in made} == {key.bytes[:12]}
    assert [int.from_bytes(each.bytes[12:], "big") for each in made] == list(range(count))


@given(key=keys, rank=st.integers(0, 2**33))
def test_an_execution_leads_back_to_its_trigger(key: UUID, rank: int) -> None:
    lowest, highest = trigger_range(execution_id(key, rank))
    assert lowest <= key <= highest
    assert lowest.bytes[:12] == highest.bytes[:12] == key.bytes[:12]
    assert (lowest.bytes[12:], highest.bytes[12:]) == (b"\0" * 4, b"\xff" * 4)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_the_first_id_of_a_moment_is_below_all_its_keys_and_above_all_earlier_ones(moment: datetime) -> None:
    bound = first_id_of(moment)
    moment_ms = (moment - EPOCH) // timedelta(milliseconds=1)
    assert bound <= new_id(moment_ms)
    assert moment_ms == 0 or new_id(moment_ms - 1) < bound


def test_the_first_id_is_zero_behind_its_moment() -> None:
    assert str(first_id_of(datetime(2026, 11, 22, tzinfo=UTC))) == "01a2008d-7400-0000-0000-000000000000"


def test_a_moment_may_be_given_in_any_time_zone_but_must_have_one() -> None:
    utc = datetime(2026, 11, 22, tzinfo=UTC)
    assert first_id_of(utc.astimezone(timezone(timedelta(hours=14)))) == first_id_of(utc)
    with pytest.raises(ValueError, match="time zone"):
        first_id_of(utc.replace(tzinfo=None))


@given(day=days, within_ms=st.integers(min_value=0, max_value=86_399_999))
def test_every_key_of_a_day_lies_within_its_bounds(day: date, within_ms: int) -> None:
    lowest, beyond = day_bounds(day)
    midnight_ms = (day - date(1970, 1, 1)).days * 86_400_000
    assert lowest <= new_id(midnight_ms + within_ms) < beyond
    assert beyond == day_bounds(day + timedelta(days=1))[0]
