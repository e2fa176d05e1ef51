"""Two versions measured in turns: the ratio of their medians, and how sure it is.

Pure. A round's two values belong together: what slows the machine down slows both. So rounds are
drawn, not values.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

DRAWS = 10_000
CONFIDENCE = 0.95

# The same measurements give the same interval.
SEED = 9


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two medians and the interval that holds it with CONFIDENCE."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 1: the two differ."""
        return not self.low <= 1 <= self.high


def compare_rounds(this: Sequence[float], other: Sequence[float]) -> Ratio | None:
    """The ratio of the median of `this` to that of `other`, both in the order of the rounds; None
    where that is 0.

    The interval is that of a paired bootstrap. With fewer than about six rounds it is too narrow.
    ValueError when the two are not of equal length.
    """
    if len(this) != len(other):
        raise ValueError(f"{len(this)} rounds beside {len(other)}")
    if not statistics.median(other):
        return None
    drawn = sorted(_draw_ratios(this, other))
    aside = (1 - CONFIDENCE) / 2
    low, high = (drawn[min(int(len(drawn) * share), len(drawn) - 1)] for share in (aside, 1 - aside))
    return Ratio(statistics.median(this) / statistics.median(other), low, high)


def _draw_ratios(this: Sequence[float], other: Sequence[float]) -> list[float]:
    chance = random.Random(SEED)
    pairs = list(zip(this, other, strict=True))
    ratios = []
    for _ in range(DRAWS):
        sample = chance.choices(pairs, k=len(pairs))
        if below := statistics.median(pair[1] for pair in sample):
            ratios.append(statistics.median(pair[0] for pair in sample) / below)
    return ratios
