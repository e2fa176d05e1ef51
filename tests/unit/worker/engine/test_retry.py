"""When a failed attempt is repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.retry_policy import parse_retry
from shared.errors import Invalid
from tests.unit.worker.engine.test_steps import new_action
from worker.actions.contract import Outcome
from worker.engine.retry import DEFAULT_SCHEDULE_SECONDS, Again, Tries, next_attempt

FAILED = Outcome(success=False, code="http_503", error="x", retryable=True)


def delay(
    retry: dict[str, Any] | None, attempt: int, outcome: Outcome = FAILED, jitter: float = 0.0
) -> float | None:
    action = replace(new_action(), retry=retry)
    again = next_attempt(action, Tries(attempt), outcome, 5_000, lambda: jitter)
    return None if again is None else again.delay_seconds


def test_eight_attempts_are_the_default_and_one_can_be_asked_for() -> None:
    assert [delay(None, n) for n in range(1, 9)] == [*DEFAULT_SCHEDULE_SECONDS, None]
    assert delay({"maxAttempts": 1}, 1) is None


def test_a_schedule_is_followed_and_its_last_delay_repeats() -> None:
    retry = {"maxAttempts": 5, "schedule": [1, 10]}
    assert [delay(retry, n) for n in range(1, 6)] == [1, 10, 10, 10, None]


def test_more_attempts_than_delays_repeat_the_last_one() -> None:
    assert [delay({"maxAttempts": 10}, n) for n in range(7, 11)] == [28_800, 28_800, 28_800, None]


UNSENT = replace(FAILED, code="connect_failed", unsent=True)


def again(tries: Tries, outcome: Outcome = UNSENT, duration_ms: int = 3, attempts: int = 8) -> Again | None:
    action = replace(new_action(), retry={"maxAttempts": attempts, "schedule": [5, 30]})
    return next_attempt(action, tries, outcome, duration_ms, lambda: 0.0)


def test_a_connection_that_failed_quickly_is_tried_again_at_once_and_only_once() -> None:
    """The schedule's first delay follows it; fails when the immediate retry uses it up, or comes
    again and again.
    """
    assert again(Tries(1)) == Again(0.0, immediate=True)
    assert again(Tries(2, immediate=True)) == Again(5)
    assert again(Tries(3, immediate=True)) == Again(30)


@pytest.mark.parametrize(("outcome", "duration_ms"), [(UNSENT, 1_000), (FAILED, 3)])
def test_what_took_long_or_may_have_arrived_waits_for_the_schedule(
    outcome: Outcome, duration_ms: int
) -> None:
    assert again(Tries(1), outcome, duration_ms) == Again(5)


def test_an_immediate_retry_takes_no_place_of_the_schedule() -> None:
    """Fails when the schedule's last attempt is missing after a connection that failed at once."""
    assert again(Tries(1), attempts=1) is None, "one attempt is one attempt"
    assert again(Tries(2, immediate=True), attempts=2) == Again(5)
    assert again(Tries(3, immediate=True), attempts=2) is None


REFUSED = replace(FAILED, code="http_401", status_code=401, mended=True)


def test_an_attempt_whose_cause_of_failure_is_mended_is_followed_at_once_and_only_once() -> None:
    """At whichever attempt that was, however long it took, and the schedule goes on behind it.

    Fails when a receiver that refuses every token is called again and again without a pause.
    """
    assert again(Tries(1), REFUSED, 5_000) == Again(0.0, immediate=True)
    assert again(Tries(2), REFUSED, 5_000) == Again(0.0, immediate=True)
    assert again(Tries(2, immediate=True), REFUSED) == Again(5)
    assert again(Tries(3, immediate=True), REFUSED) == Again(30)
    assert again(Tries(2, immediate=True), UNSENT) == Again(5), "one at once, for whatever reason"


def test_what_the_policy_ends_is_ended_all_the_same() -> None:
    action = replace(new_action(), retry={"permanentStatuses": [401]})
    assert next_attempt(action, Tries(1), REFUSED, 3) is None
    assert again(Tries(1), REFUSED, attempts=1) is None


def test_an_exponential_schedule_is_capped() -> None:
    retry = {"maxAttempts": 9, "initialSeconds": 2, "factor": 3, "capSeconds": 20}
    assert [delay(retry, n) for n in range(1, 5)] == [2, 6, 18, 20]


@given(st.integers(300, 599))
def test_which_answers_end_at_once_is_the_policys_to_say(status: int) -> None:
    refused = replace(FAILED, status_code=status, retry_after_seconds=1)
    documented = {400, 405, 413, 414, 415, 422, 431, 501, 505, 508}
    assert (delay(None, 1, refused) is None) == (status in documented)
    assert delay({"permanentStatuses": []}, 1, refused) is not None
    assert delay({"permanentStatuses": [status]}, 1, refused) is None
    assert delay({"permanentStatuses": [599 if status == 300 else 300]}, 1, refused) is not None


def test_a_call_without_an_answer_has_no_status_to_end_at() -> None:
    assert delay({"permanentStatuses": list(range(300, 600))}, 1) is not None


def test_what_cannot_be_fixed_by_repeating_is_not_repeated() -> None:
    retry = {"maxAttempts": 9}
    assert delay(retry, 1, Outcome.permanent("http_400", "x")) is None
    assert delay(retry, 1, Outcome(success=True)) is None


@given(st.floats(0, 1), st.floats(0, 10**6))
def test_jitter_only_lengthens_and_retry_after_is_a_floor(jitter: float, asked: float) -> None:
    retry = {"maxAttempts": 2, "schedule": [100]}
    found = delay(retry, 1, replace(FAILED, retry_after_seconds=asked), jitter)
    assert found is not None
    assert found >= 100
    assert found >= min(asked, 24 * 3600)
    assert found <= max(120, 24 * 3600)


@pytest.mark.parametrize(
    "retry",
    [
        {"maxAttempts": 0},
        {"maxAttempts": 31},
        {"maxAttempts": "many"},
        {"schedule": []},
        {"schedule": [-1]},
        {"schedule": [float("inf")]},
        {"schedule": [1], "initialSeconds": 1},
        {"initialSeconds": 1, "factor": 0.5},
        {"surprise": 1},
        [],
    ],
)
def test_a_policy_that_cannot_work_is_refused(retry: Any) -> None:
    with pytest.raises(Invalid) as error:
        parse_retry(retry)
    assert error.value.code == "bad_retry"


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 10_000),
    st.floats(1, 10),
    st.floats(0, 604_800),
    st.floats(0, 1, exclude_max=True),
)
def test_an_exponential_delay_is_bounded_and_never_shrinks(
    attempts: int, attempt: int, initial: float, factor: float, cap: float, jitter: float
) -> None:
    retry = {"maxAttempts": attempts, "initialSeconds": initial, "factor": factor, "capSeconds": cap}
    found = delay(retry, attempt, FAILED, jitter)
    assert (found is None) == (attempt >= attempts)
    if found is not None:
        assert 0 <= found <= cap * 1.2
        assert found >= (delay(retry, attempt - 1) or 0.0 if attempt > 1 else 0.0)


@given(st.lists(st.floats(0, 604_800), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 30))
def test_as_many_attempts_are_made_as_were_asked_for(
    schedule: list[float], attempts: int, attempt: int
) -> None:
    found = delay({"maxAttempts": attempts, "schedule": schedule}, attempt)
    assert found == (None if attempt >= attempts else schedule[min(attempt, len(schedule)) - 1])


def test_the_default_schedule_is_the_one_that_is_documented() -> None:
    minute, hour = 60, 3600
    documented = (5, 30, 2 * minute, 10 * minute, hour, 3 * hour, 8 * hour)
    assert documented == DEFAULT_SCHEDULE_SECONDS


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (None, 100),
        (0, 100),
        (99, 100),
        (101, 101),
        (86_400, 86_400),
        (86_401, 86_400),
        (float("inf"), 86_400),
    ],
)
def test_what_the_receiver_asks_for_is_a_floor_of_at_most_a_day(asked: float | None, waited: float) -> None:
    retry = {"maxAttempts": 2, "schedule": [100]}
    assert delay(retry, 1, replace(FAILED, retry_after_seconds=asked)) == waited


def test_a_delay_of_more_than_a_day_is_not_cut_to_what_the_receiver_may_ask() -> None:
    retry = {"maxAttempts": 2, "schedule": [200_000]}
    assert delay(retry, 1, replace(FAILED, retry_after_seconds=10**6)) == 200_000


def test_many_failures_of_one_moment_do_not_come_back_at_one_moment() -> None:
    """With its own dice: fails without jitter, and when jitter shortens."""
    action = replace(new_action(), retry={"maxAttempts": 2, "schedule": [100]})
    delays = {next_attempt(action, Tries(1), FAILED, 5_000) for _ in range(100)}
    assert len(delays) > 50
    assert all(found is not None and 100 <= found.delay_seconds <= 120 for found in delays)


def test_a_policy_that_was_written_past_the_api_is_invalid() -> None:
    with pytest.raises(Invalid):
        delay({"maxAttempts": -1}, 1)
