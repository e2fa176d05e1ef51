"""What an action's `retry` may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.retry_policy import MAX_ATTEMPTS, MAX_DELAY_SECONDS, RetryPolicy, parse_retry
from shared.errors import Invalid

seconds = st.floats(0, MAX_DELAY_SECONDS)
schedules = st.fixed_dictionaries(
    {"schedule": st.lists(seconds, min_size=1, max_size=MAX_ATTEMPTS)},
    optional={"maxAttempts": st.integers(1, MAX_ATTEMPTS)},
)
exponentials = st.fixed_dictionaries(
    {"initialSeconds": seconds},
    optional={
        "maxAttempts": st.integers(1, MAX_ATTEMPTS),
        "factor": st.floats(1, 10),
        "capSeconds": seconds,
    },
)


@given(schedules | exponentials)
def test_both_forms_are_taken_as_they_are(retry: dict[str, Any]) -> None:
    taken = parse_retry(retry).model_dump(exclude_unset=True)
    assert {**taken, **({"schedule": list(taken["schedule"])} if "schedule" in taken else {})} == retry


@pytest.mark.parametrize("retry", [None, {}])
def test_nothing_said_is_the_default(retry: Any) -> None:
    assert parse_retry(retry) == RetryPolicy()


@pytest.mark.parametrize(
    ("retry", "named"),
    [
        ({"maxAttempts": MAX_ATTEMPTS + 1}, "retry.maxAttempts"),
        ({"maxAttempts": 2.5}, "retry.maxAttempts"),
        ({"maxAttempts": None}, "retry.maxAttempts"),
        ({"schedule": [1, "soon"]}, "retry.schedule.1"),
        ({"schedule": [1, None]}, "retry.schedule.1"),
        ({"schedule": [float("nan")]}, "retry.schedule.0"),
        ({"schedule": [MAX_DELAY_SECONDS + 1]}, "retry.schedule.0"),
        ({"schedule": [1] * (MAX_ATTEMPTS + 1)}, "retry.schedule"),
        ({"schedule": 5}, "retry.schedule"),
        ({"initialSeconds": -1}, "retry.initialSeconds"),
        ({"initialSeconds": 1, "factor": 11}, "retry.factor"),
        ({"initialSeconds": 1, "factor": float("nan")}, "retry.factor"),
        ({"initialSeconds": 1, "capSeconds": float("inf")}, "retry.capSeconds"),
        ({"permanentStatuses": [404, 299]}, "retry.permanentStatuses.1"),
        ({"permanentStatuses": [600]}, "retry.permanentStatuses.0"),
        ({"permanentStatuses": ["404"]}, "retry.permanentStatuses.0"),
        ({"permanentStatuses": [True]}, "retry.permanentStatuses.0"),
        ({"permanentStatuses": [404.0]}, "retry.permanentStatuses.0"),
        ({"permanentStatuses": None}, "retry.permanentStatuses"),
        ({"permanentStatuses": 404}, "retry.permanentStatuses"),
        ({"permanentStatuses": [404] * 301}, "retry.permanentStatuses"),
        ({"max_attempts": 3}, "retry.max_attempts"),
        ("often", "retry"),
    ],
)
def test_a_refusal_names_the_field_and_shows_both_forms(retry: Any, named: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_retry(retry)
    assert error.value.code == "bad_retry"
    assert error.value.message.startswith(f"{named}: ")
    assert "schedule" in error.value.hint
    assert "initialSeconds" in error.value.hint
    assert "\n    " not in error.value.hint, "it is read by people"


def test_a_refusal_does_not_repeat_what_was_given() -> None:
    for retry in ({"maxAttempts": "canary"}, {"schedule": ["canary"]}, "canary"):
        with pytest.raises(Invalid) as error:
            parse_retry(retry)
        assert "canary" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    "retry",
    [
        {"schedule": [1], "initialSeconds": 1},
        {"maxAttempts": 3, "schedule": [1], "factor": 3},
        {"maxAttempts": 3, "schedule": [1], "capSeconds": 10},
        {"maxAttempts": 3, "factor": 3},
        {"maxAttempts": 3, "capSeconds": 10},
    ],
)
def test_a_field_that_would_be_ignored_is_refused(retry: dict[str, Any]) -> None:
    """Fails when half of the exponential form is dropped without a word and the default schedule
    used.
    """
    with pytest.raises(Invalid):
        parse_retry(retry)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_retry({"maxAttempts": 3}).maxAttempts = 4  # type: ignore[misc]
