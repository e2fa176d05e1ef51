"""What is kept has a bound, whoever thinks up the keys."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from shared.templates.kept import Kept
from shared.templates.targets import Target
from shared.templates.template import Condition, Template


class Thing(NamedTuple):
    name: str
    weight: int


def test_a_thing_is_made_once_and_the_oldest_goes() -> None:
    made: list[str] = []

    def make(name: str, weight: int) -> Thing:
        made.append(name)
        return Thing(name, weight)

    kept = Kept(make, 80)
    for name in "abcdefgh":
        kept(name, 10)
    assert kept("a", 10) is kept("a", 10)
    kept("i", 10)
    assert kept.weight == 80
    kept("a", 10)
    assert made == list("abcdefghi"), "what was just used stays"
    kept("b", 10)
    assert made[-1] == "b"


def test_what_is_too_heavy_is_not_kept() -> None:
    kept = Kept(Thing, 80)
    assert kept("large", 11) is not kept("large", 11)
    assert kept.weight == 0


def test_what_cannot_be_made_says_so_each_time() -> None:
    def make(name: str) -> Thing:
        raise ValueError(name)

    kept = Kept(make, 80)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            kept("bad")


def test_a_dense_text_weighs_more_than_a_plain_one() -> None:
    """Fails when a text of many small outputs counts no more than its characters."""
    dense, plain = Template("{{query}}" * 200, Target.TEXT), Template("{{query}}" + "x" * 1_800, Target.TEXT)
    assert dense.weight > 5 * plain.weight > 0
    assert Template("{{ query }}" + "x" * 100_000, Target.TEXT).weight > 1_000
    filtered = Template("{{ query " + "| upcase" * 100 + "}}", Target.TEXT)
    assert filtered.weight > 100
    assert Condition(" or ".join(["query"] * 200)).weight > 200
