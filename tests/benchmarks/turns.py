"""What one side is asked for in its turn, beside bursts: to accept alone, and to deliver soon."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks import paced
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import in_ms
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.rounds import Throughput
from tests.benchmarks.sides import Side

PACED_SECONDS = 6.0
QUICK_PACED_SECONDS = 2.0

# A load that every side carries, so that latencies under it can be compared.
STEADY_PER_SECOND = 280.0
IDLE, STEADY, HALF = "idle", f"{STEADY_PER_SECOND:.0f}/s", "half load"

Latencies = dict[str, list[float]]
"""Seconds from trigger to delivered, by load."""


def accepted_alone(bench: Bench, pointsman: Pointsman) -> float:
    """Accepted/s in a burst while the workers are frozen; they drain afterwards."""
    before = bench.nginx.count()
    with pointsman.frozen("worker"):
        alone = bench.load.post(pointsman.urls["nginx"])
    pointsman.drain(alone.accepted, bench.nginx, before)
    bench.settle(pointsman)
    per_second = alone.accepted / alone.seconds
    bench.say(f"  {pointsman.name} with its workers stopped: {per_second:,.0f} accepted/s")
    return per_second


def half_rate(throughput: Sequence[Throughput]) -> float:
    """Half of what a side executed in a second, up to now."""
    return statistics.median(one.executed_per_second for one in throughput) / 2


def paced_seconds(bench: Bench) -> float:
    """How long paced load lasts."""
    return QUICK_PACED_SECONDS if bench.quick else PACED_SECONDS


def latencies(bench: Bench, side: Side, rates: dict[str, float]) -> Latencies:
    """Trigger to delivered: one at a time, then open loop at these rates."""
    url = side.urls["sink"]
    found = {IDLE: paced.one_at_a_time(url, bench.sink, bench.idle)}
    for load, rate in rates.items():
        found[load] = paced.at_rate(url, bench.sink, rate, paced_seconds(bench))
    bench.settle(side)
    told = (f"{load} {in_ms(found[load], 0.5)} and {in_ms(found[load], 0.99)} ms" for load in found)
    bench.say(f"  {side.name}, trigger to delivered, p50 and p99: {', '.join(told)}")
    return found
