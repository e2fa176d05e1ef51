"""The ratio of two versions that were measured in turns."""

from __future__ import annotations

import random
import statistics

import pytest

from tests.benchmarks.paired import compare_rounds

ROUNDS = 9


def test_a_tenth_more_in_each_round_is_told_from_none_though_rounds_differ_by_half() -> None:
    other = [1000.0, 1500.0, 1100.0, 1400.0, 1250.0, 1050.0, 1450.0, 1300.0, 1200.0]
    ratio = compare_rounds([value * 1.1 for value in other], other)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.1)
    assert ratio.low == pytest.approx(1.1)
    assert ratio.is_clear


def test_a_difference_that_stands_out_of_the_noise_excludes_one() -> None:
    chance = random.Random(1)
    other = [1000 * chance.uniform(0.97, 1.03) for _ in range(ROUNDS)]
    this = [1200 * chance.uniform(0.97, 1.03) for _ in range(ROUNDS)]
    ratio = compare_rounds(this, other)
    assert ratio is not None
    assert 1 < ratio.low <= ratio.value <= ratio.high
    assert ratio.low <= 1.2 <= ratio.high
    assert ratio.is_clear


def test_the_same_with_noise_includes_one() -> None:
    chance = random.Random(2)
    this, other = ([1000 * chance.uniform(0.8, 1.2) for _ in range(ROUNDS)] for _ in range(2))
    ratio = compare_rounds(this, other)
    assert ratio is not None
    assert ratio.low < 1 < ratio.high
    assert not ratio.is_clear


def test_rounds_stay_paired() -> None:
    """Were values drawn for each side by itself, this interval would be as wide as the rounds
    differ.
    """
    other = [float(value) for value in (100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600)]
    ratio = compare_rounds(other, other)
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)


def test_the_ratio_is_that_of_the_medians_not_of_the_means() -> None:
    this, other = [1.0, 2.0, 300.0], [2.0, 4.0, 5.0]
    ratio = compare_rounds(this, other)
    assert ratio is not None
    assert ratio.value == statistics.median(this) / statistics.median(other)


def test_the_interval_is_the_same_each_time() -> None:
    this, other = [3.0, 5.0, 4.0, 6.0], [4.0, 4.5, 5.0, 3.5]
    assert compare_rounds(this, other) == compare_rounds(this, other)


def test_nothing_is_no_measure() -> None:
    assert compare_rounds([1.0, 2.0, 3.0], [0.0, 0.0, 1.0]) is None


def test_one_round_gives_a_ratio_without_width() -> None:
    ratio = compare_rounds([3.0], [2.0])
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == (1.5, 1.5, 1.5)


def test_a_round_that_lacks_its_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds beside 1"):
        compare_rounds([1.0, 2.0], [1.0])
