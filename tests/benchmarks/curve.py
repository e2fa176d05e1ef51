"""Throughput and latency against offered load, of both sides: where each begins to fall behind."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tests.benchmarks import paced
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import in_ms, percentile
from tests.benchmarks.pipeline import Bare
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.sides import Side

# Of what the side executed in a burst.
SHARES = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.15)
SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one rate. Rates per second; latencies from trigger to delivery, in seconds."""

    offered: float
    delivered: float
    p50: float
    p99: float


def curve(bench: Bench) -> None:
    """Walk up the load of each side, from little to more than it can do."""
    points: dict[str, list[Point]] = {}
    with (
        Bare(bench.folder / "curve-bare", bench.targets) as bare,
        Pointsman(bench.folder / "curve-pointsman", bench.targets) as pointsman,
    ):
        for side in (bare, pointsman):
            bench.warm_up(side)
            best = bench.burst(side, f"{side.name} in a burst").executed_per_second
            points[side.name] = [_point(bench, side, best * share) for share in SHARES]
    bench.report.raw["curve"] = {name: [asdict(point) for point in found] for name, found in points.items()}
    rows = [
        [
            name,
            f"{point.offered:,.0f}",
            f"{point.delivered:,.0f}",
            in_ms([point.p50], 0),
            in_ms([point.p99], 0),
        ]
        for name, found in points.items()
        for point in found
    ]
    headings = ["", "offered/s", "delivered/s", "p50 (ms)", "p99 (ms)"]
    bench.report.tables.append(Table("Throughput and latency against offered load", headings, rows))
    if bench.plot_path is not None:
        from tests.benchmarks.plot import draw  # matplotlib is a second's wait

        draw(points, bench.plot_path)
        bench.say(f"the plot is in {bench.plot_path}")


def _point(bench: Bench, side: Side, rate: float) -> Point:
    latencies = paced.at_rate(side.urls["sink"], bench.sink, rate, SECONDS)
    seconds = bench.sink.last_at - bench.sink.first_sent_at
    point = Point(rate, len(latencies) / seconds, percentile(latencies, 0.5), percentile(latencies, 0.99))
    bench.say(
        f"{side.name} at {rate:,.0f}/s: {point.delivered:,.0f} delivered/s, "
        f"p50 {point.p50 * 1000:.1f} ms, p99 {point.p99 * 1000:.1f} ms"
    )
    return point
