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


def with_spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and spread as text."""
    middle, spread = median_and_spread(values)
    return f"{middle:,.{digits}f} ±{spread:.0f} %"


def in_ms(seconds: Sequence[float], share: float) -> str:
    """A percentile of latencies as text, in ms."""
    return f"{percentile(seconds, share) * 1000:.1f}"


def ratio(value: float, of: float) -> str:
    """How many times as much, as text."""
    return f"{value / of:.2f}" if of else "–"
