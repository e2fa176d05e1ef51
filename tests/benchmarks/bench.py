"""One run of the benchmark: what loads, what receives, and where findings go.

Each section is a function of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import wait_until_quiet
from tests.benchmarks.report import Report
from tests.benchmarks.rounds import Throughput, measure
from tests.benchmarks.sides import Side
from tests.benchmarks.sink import Sink
from tests.benchmarks.wrk import Load

T = TypeVar("T")

WARM_UP_SECONDS = 2
SUSTAINED_SECONDS, QUICK_SUSTAINED_SECONDS = 60, 4

# For a side's residues; on a machine that others use they never end.
SETTLE_SECONDS, QUICK_SETTLE_SECONDS = (
    10.0,
    1.0,
)

# Share of the machine that may be used by others before the reader is told.
BUSY_ELSEWHERE = 0.1


def in_turn(round_number: int, *sides: T) -> tuple[T, ...]:
    """Who is measured after whom: every other round in the opposite order, so that being first
    favours nobody.
    """
    return sides[::-1] if round_number % 2 else sides


@dataclass(frozen=True, slots=True)
class Bench:
    """A run. rounds: how often each thing is measured. idle: triggers sent one at a time. history:
    old executions.

    quick: everything once and briefly, to see that it works. plot_path: where the plot goes.
    beside: the version that `compare` measures this one by, instead of the bare pipelines.
    """

    folder: Path
    nginx: Nginx
    sink: Sink
    load: Load
    rounds: int
    idle: int
    history: int
    quick: bool
    plot_path: Path | None
    beside: str | None
    report: Report
    console: Console

    @property
    def targets(self) -> dict[str, str]:
        """Where the callbacks of a side deliver to."""
        return {"nginx": self.nginx.url, "sink": self.sink.url()}

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def warm_up(self, side: Side) -> None:
        self.say(f"warming up: {side.name}")
        measure(side, self.nginx, replace(self.load, seconds=WARM_UP_SECONDS))
        self.settle(side)

    def burst(
        self,
        side: Side,
        label: str,
        urls: str | Sequence[str] | None = None,
        deliveries: int = 1,
        bodies: tuple[str, ...] | None = None,
        seconds: int | None = None,
    ) -> Throughput:
        """A burst against a side, its drain, and quiet for whoever comes next."""
        load = replace(self.load, bodies=bodies or self.load.bodies, seconds=seconds or self.load.seconds)
        found = measure(side, self.nginx, load, urls, deliveries)
        self.say(
            f"{label}: {found.accepted_per_second:,.0f} accepted/s, {found.executed_per_second:,.0f} executed/s, "
            f"{found.total_cpu_us:,.0f} µs CPU per trigger"
        )
        self._note_errors(label, found)
        if found.elsewhere > BUSY_ELSEWHERE:
            self.report.notes.append(f"{label}: others used {found.elsewhere:.0%} of the machine")
        self.settle(side)
        return found

    def pairs(
        self, one: Side, other: Side, one_label: str, other_label: str
    ) -> list[tuple[Throughput, Throughput]]:
        """A burst against both in each round, in turns."""
        found = []
        for number in range(self.rounds):
            bursts = {
                label: self.burst(side, label)
                for side, label in in_turn(number, (one, one_label), (other, other_label))
            }
            found.append((bursts[one_label], bursts[other_label]))
        return found

    def sustained(self, side: Side) -> Throughput:
        """A minute of load that never lets up, and its drain."""
        seconds = QUICK_SUSTAINED_SECONDS if self.quick else SUSTAINED_SECONDS
        return self.burst(side, f"{seconds} s of load on {side.name}", seconds=seconds)

    def settle(self, side: Side) -> None:
        """Let what a side's turn leaves behind end before the other's turn."""
        side.tidy()
        wait_until_quiet(QUICK_SETTLE_SECONDS if self.quick else SETTLE_SECONDS)

    def _note_errors(self, label: str, found: Throughput) -> None:
        counts = {
            "answers were no 2xx": found.refused,
            "connections failed": found.broken,
            "requests had no answer in time": found.late,
        }
        self.report.notes += [f"{label}: {count} {what}" for what, count in counts.items() if count]
