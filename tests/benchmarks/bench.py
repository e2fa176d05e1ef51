"""One run of the benchmark: what loads, what receives, and where findings go. Each section is a function of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tests.benchmarks.nginx import Nginx
from tests.benchmarks.report import Report
from tests.benchmarks.rounds import Throughput, measure
from tests.benchmarks.sides import Side
from tests.benchmarks.sink import Sink
from tests.benchmarks.wrk import Load

WARM_UP_SECONDS = 2
BUSY_ELSEWHERE = 0.1  # share of the machine that may be used by others before the reader is told


@dataclass(frozen=True, slots=True)
class Bench:
    """A run. rounds: how often each thing is measured. idle: triggers sent one at a time. history: old executions.

    quick: everything once and briefly, to see that it works. plot_path: where the plot goes.
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

    def burst(
        self,
        side: Side,
        label: str,
        urls: str | Sequence[str] | None = None,
        deliveries: int = 1,
        body: str | None = None,
    ) -> Throughput:
        """A burst against a side, and its drain."""
        load = self.load if body is None else replace(self.load, body=body)
        found = measure(side, self.nginx, load, urls, deliveries)
        self.say(
            f"{label}: {found.accepted_per_second:,.0f} accepted/s, {found.executed_per_second:,.0f} executed/s, "
            f"{found.total_cpu_us:,.0f} µs CPU per trigger"
        )
        if found.refused:
            self.report.notes.append(f"{label}: {found.refused} requests were refused")
        if found.elsewhere > BUSY_ELSEWHERE:
            self.report.notes.append(f"{label}: others used {found.elsewhere:.0%} of the machine")
        return found
