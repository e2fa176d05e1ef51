"""What callers of trigger URLs prefer."""

from __future__ import annotations

import pytest

from api.ingress.call import preferred_wait_seconds


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=7", 7),
        ("respond-async, Wait = 7 ; x=1", 7),
        ('wait="7"', 7),
        ("wait=7, wait=9", 7),
        ("wait=120", 30),
        ("wait=0", 0),
        ("wait", 0),
        ("wait=soon", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=\u0663", 0),
        ("wait=" + "9" * 5000, 0),
        ("awaits=7", 0),
    ],
)
def test_the_preferred_wait_is_bounded_and_nonsense_is_ignored(prefer: str | None, seconds: int) -> None:
    assert preferred_wait_seconds(prefer, timeout_ms=30_999) == seconds
