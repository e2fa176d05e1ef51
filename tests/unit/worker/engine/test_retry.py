"""When a failed attempt is repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.retry_policy import parse_retry
from tests.unit.worker.engine.test_steps import new_action
from worker.actions.contract import Outcome
from worker.engine.retry import DEFAULT_SCHEDULE_SECONDS, delay_before_next

FAILED = Outcome(success=False, code="http_503", error="x", retryable=True)


def delay(
    retry: dict[str, Any] | None, attempt: int, outcome: Outcome = FAILED, jitter: float = 0.0
) -> float | None:
    return delay_before_next(replace(new_action(), retry=retry), attempt, outcome, lambda: jitter)


def test_one_attempt_is_the_default() -> None:
    assert delay(None, 1) is None
    assert delay({"maxAttempts": 1}, 1) is None


def test_a_schedule_is_followed_and_its_last_delay_repeats() -> None:
    retry = {"maxAttempts": 5, "schedule": [1, 10]}
    assert [delay(retry, n) for n in range(1, 6)] == [1, 10, 10, 10, None]


def test_more_attempts_without_a_schedule_follow_the_default_one() -> None:
    assert [delay({"maxAttempts": 8}, n) for n in range(1, 8)] == list(DEFAULT_SCHEDULE_SECONDS)


def test_an_exponential_schedule_is_capped() -> None:
    retry = {"maxAttempts": 9, "initialSeconds": 2, "factor": 3, "capSeconds": 20}
    assert [delay(retry, n) for n in range(1, 5)] == [2, 6, 18, 20]


def test_what_cannot_be_mended_by_repeating_is_not_repeated() -> None:
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
