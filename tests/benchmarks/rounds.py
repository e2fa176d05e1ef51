"""One burst against one side, and what it cost."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Group, Usage, machine_busy_seconds, usage_of
from tests.benchmarks.sides import Side
from tests.benchmarks.wrk import Load

# What is measured: not load and receiver.
GROUPS = ("API", "worker", "PostgreSQL", "Redis", "the rest")


@dataclass(frozen=True, slots=True)
class Throughput:
    """One burst. cpu_us: CPU-µs per trigger by group. peak_mib: peak memory by group.

    refused, broken, late: as wrk counts them (wrk.Burst). elsewhere: share of the machine's CPU
    time that nobody here used, between 0 and 1.
    """

    accepted_per_second: float
    executed_per_second: float
    refused: int
    broken: int
    late: int
    cpu_us: dict[str, float]
    peak_mib: dict[str, float]
    elsewhere: float

    @property
    def total_cpu_us(self) -> float:
        """CPU-µs per trigger of all that is measured."""
        return sum(self.cpu_us[group] for group in GROUPS)


def measure(
    side: Side, nginx: Nginx, load: Load, urls: str | Sequence[str] | None = None, deliveries: int = 1
) -> Throughput:
    """Post as fast as possible, then wait for the last execution.

    urls: of the side's callbacks; by default the one that goes to nginx. deliveries: of each
    trigger, at least.
    """
    groups = {**side.groups(), "nginx": Group((nginx.pid,)), "benchmark": Group((os.getpid(),), below=False)}
    delivered_before = nginx.count()
    before, busy_before, began = _usages(groups), machine_busy_seconds(), time.monotonic()
    burst = load.post(urls or side.urls["nginx"])
    drained = side.drain(burst.accepted, nginx, delivered_before, deliveries)
    after, busy_after, over = _usages(groups), machine_busy_seconds(), time.monotonic()
    # The benchmark is the parent of wrk: its children's time holds wrk's, which has ended.
    cpu = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in groups}
    elsewhere = busy_after - busy_before - sum(cpu.values())
    cpu["wrk"] = burst.cpu_seconds
    del cpu["benchmark"]
    return Throughput(
        accepted_per_second=burst.accepted / burst.seconds,
        executed_per_second=drained.executed / (drained.ended - burst.started),
        refused=burst.refused,
        broken=burst.broken,
        late=burst.late,
        cpu_us={name: used * 1e6 / drained.executed for name, used in cpu.items()},
        peak_mib={name: after[name].peak_bytes / 2**20 for name in groups},
        elsewhere=max(elsewhere / (over - began) / (os.cpu_count() or 1), 0.0),
    )


def _usages(groups: dict[str, Group]) -> dict[str, Usage]:
    return {name: usage_of(group) for name, group in groups.items()}
