"""One round of measuring: a burst against one side, and what it cost."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import wrk
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Usage, usage_of
from tests.benchmarks.sides import Side


@dataclass(frozen=True, slots=True)
class Throughput:
    """One burst. cpu_us: CPU-µs per trigger by group. peak_mib: peak memory by group."""

    accepted_per_second: float
    executed_per_second: float
    refused: int
    cpu_us: dict[str, float]
    peak_mib: dict[str, float]


def measure(side: Side, nginx: Nginx, seconds: int, connections: int, folder: Path) -> Throughput:
    """Post as fast as possible, then wait for the last execution."""
    groups = {**side.groups(), "receiver": [nginx.pid]}
    before = {name: _sum(pids) for name, pids in groups.items()}
    delivered_before = nginx.count()
    burst = wrk.post(side.urls["nginx"], seconds, connections, folder)
    ended = side.wait_until_executed(burst.accepted, nginx, delivered_before)
    after = {name: _sum(pids) for name, pids in groups.items()}
    cpu = {
        name: (after[name].cpu_seconds - before[name].cpu_seconds) * 1e6 / burst.accepted for name in groups
    }
    cpu["load"] = burst.cpu_seconds * 1e6 / burst.accepted
    return Throughput(
        accepted_per_second=burst.accepted / burst.seconds,
        executed_per_second=burst.accepted / (ended - burst.started),
        refused=burst.refused,
        cpu_us=cpu,
        peak_mib={name: after[name].peak_bytes / 2**20 for name in groups},
    )


def _sum(pids: list[int]) -> Usage:
    usages = [usage_of(pid) for pid in pids]
    return Usage(sum(u.cpu_seconds for u in usages), sum(u.peak_bytes for u in usages))


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median_and_spread(values: list[float]) -> tuple[float, float]:
    """The median, and half the distance from least to greatest in percent of it."""
    middle = statistics.median(values)
    return middle, (max(values) - min(values)) / 2 / middle * 100 if middle else 0.0
