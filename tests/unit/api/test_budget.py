"""The budget of bytes that requests hold."""

from __future__ import annotations

import pytest

from api.budget import LITTLE_BYTES, Budget, Held
from shared.errors import Unavailable


def test_what_is_too_much_at_once_is_refused_and_costs_nothing() -> None:
    budget = Budget("files", 10)
    one, other = Held(budget), Held(budget)
    one.take(6)
    with pytest.raises(Unavailable, match="Too many files"):
        other.take(5)
    other.take(4)
    one.free()
    other.take(6)


def test_what_is_freed_twice_is_given_back_once() -> None:
    budget = Budget("files", 10)
    one, other = Held(budget), Held(budget)
    one.take(10)
    one.free()
    one.free()
    other.take(10)
    with pytest.raises(Unavailable):
        one.take(1)


def test_what_is_kept_for_little_ones_no_large_one_takes() -> None:
    """Fails when a few large bodies, sent slowly, keep everybody out."""
    budget = Budget("bodies", 10 * LITTLE_BYTES, 2 * LITTLE_BYTES)
    large, too_large, little, others = (Held(budget) for _ in range(4))
    large.take(7 * LITTLE_BYTES)
    too_large.take(LITTLE_BYTES)
    with pytest.raises(Unavailable):
        too_large.take(1)
    little.take(LITTLE_BYTES)
    others.take(LITTLE_BYTES)
    with pytest.raises(Unavailable):
        Held(budget).take(1)
    large.free()
    too_large.take(1)
