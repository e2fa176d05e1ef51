"""What many measurements come to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The median, and half the distance from least to greatest in percent of it."""
    middle = statistics.median(values)
    return middle, (max(values) - min(values)) / 2 / middle * 100 if middle else 0.0
