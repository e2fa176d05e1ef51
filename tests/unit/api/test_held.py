"""The budget of bytes that requests hold."""

from __future__ import annotations

import pytest

from api.held import Budget, Share
from shared.errors import Unavailable


def test_what_is_too_much_at_once_is_refused_and_costs_nothing() -> None:
    budget = Budget("files", 10)
    one, other = Share(budget), Share(budget)
    one.take(6)
    with pytest.raises(Unavailable, match="Too many files"):
        other.take(5)
    other.take(4)
    one.free()
    other.take(6)


def test_what_is_freed_twice_is_given_back_once() -> None:
    budget = Budget("files", 10)
    one, other = Share(budget), Share(budget)
    one.take(10)
    one.free()
    one.free()
    other.take(10)
    with pytest.raises(Unavailable):
        one.take(1)
