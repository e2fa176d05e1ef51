"""The plot of curve.py's points, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot

if TYPE_CHECKING:
    from tests.benchmarks.curve import Point

COLOURS = ("#888888", "#1f6feb")


def draw(points: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw delivered/s, and below it p50 and p99, against offered/s.

    The path's ending says which format.
    """
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "pointsman"  # the same figures give the same file
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 7), layout="constrained")
    for colour, (name, found) in zip(COLOURS, points.items(), strict=True):
        offered = [point.offered for point in found]
        above.plot(offered, [point.delivered for point in found], "o-", color=colour, label=name)
        for share, style in (("p50", "o-"), ("p99", "o--")):
            milliseconds = [getattr(point, share) * 1000 for point in found]
            below.plot(offered, milliseconds, style, color=colour, label=f"{name}, {share}")
    most = max(point.offered for found in points.values() for point in found)
    above.plot([0, most], [0, most], ":", color="#bbbbbb", label="all that is offered")
    above.set_ylabel("delivered per second")
    below.set_ylabel("trigger to delivered (ms)")
    below.set_yscale("log")
    below.set_xlabel("triggers offered per second")
    for axes in (above, below):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata)
    pyplot.close(figure)
