"""What an error of a call to the outside says."""

from __future__ import annotations

import pytest

from worker.egress.errors import EgressError, Phase, bad_request


@pytest.mark.parametrize(
    ("phase", "before"), [("resolve", True), ("connect", True), ("send", False), ("receive", False)]
)
def test_before_send_is_known_by_the_phase(phase: Phase, before: bool) -> None:
    assert EgressError("connect_failed", "no", phase=phase).before_send is before


def test_a_bad_request_is_permanent_and_was_not_sent() -> None:
    error = bad_request("This is not a URL.")
    assert (error.code, error.message) == ("bad_request", "This is not a URL.")
    assert error.permanent
    assert error.before_send
