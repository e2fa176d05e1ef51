"""The table: one row for each figure, the bare pipeline beside Pointsman."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import median_and_spread, percentile
from tests.benchmarks.rounds import Throughput

GROUPS = ("API", "worker", "PostgreSQL", "Redis", "the rest")  # what is measured: not load and receiver


@dataclass
class Results:
    """Everything that was measured. Latencies in seconds, by side and load; answers by Redis."""

    machine: dict[str, str]
    command: str
    throughput: dict[str, list[Throughput]] = field(default_factory=dict)
    constant_per_second: dict[str, list[float]] = field(default_factory=dict)
    accept_alone_per_second: list[float] = field(default_factory=list)
    latencies: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    answers: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, as text."""

    figure: str
    bare: str
    pointsman: str
    ratio: str


def rows(results: Results, bare: str, pointsman: str) -> list[Row]:
    """All lines of the table."""
    one, other = results.throughput[bare], results.throughput[pointsman]
    found = [
        _spread_row(
            "accepted/s", [r.accepted_per_second for r in one], [r.accepted_per_second for r in other]
        ),
        _spread_row(
            "executed/s", [r.executed_per_second for r in one], [r.executed_per_second for r in other]
        ),
        *(
            _spread_row(
                f"accepted/s, workers stopped (bare: constant view, {server})",
                constant,
                results.accept_alone_per_second,
            )
            for server, constant in results.constant_per_second.items()
        ),
    ]
    total = [[sum(r.cpu_us[g] for g in GROUPS) for r in side] for side in (one, other)]
    found.append(_spread_row("CPU µs per trigger, all but load and receiver", *total))
    for group in GROUPS:
        found.append(
            _spread_row(f"  {group}", [r.cpu_us[group] for r in one], [r.cpu_us[group] for r in other])
        )
    for load in ("idle", "half load"):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            figure = f"trigger to delivered, {load}, {name} (ms)"
            values = [percentile(results.latencies[side][load], share) * 1000 for side in (bare, pointsman)]
            found.append(Row(figure, f"{values[0]:.1f}", f"{values[1]:.1f}", f"{values[1] / values[0]:.2f}"))
    for redis, seconds in results.answers.items():
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = f"{percentile(seconds, share) * 1000:.1f}"
            found.append(Row(f"answer at half load, Redis {redis}, {name} (ms)", "–", value, "–"))
    for group in GROUPS:
        peaks = [max(r.peak_mib[group] for r in side) for side in (one, other)]
        ratio = f"{peaks[1] / peaks[0]:.2f}" if peaks[0] else "–"
        found.append(Row(f"peak memory, {group} (MiB)", f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", ratio))
    return found


def _spread_row(figure: str, one: list[float], other: list[float]) -> Row:
    (a, spread_a), (b, spread_b) = median_and_spread(one), median_and_spread(other)
    ratio = f"{b / a:.2f}" if a else "–"
    return Row(figure, f"{a:,.0f} ±{spread_a:.0f} %", f"{b:,.0f} ±{spread_b:.0f} %", ratio)


def show(results: Results, table_rows: list[Row], console: Console) -> None:
    """Print machine and table."""
    console.print()
    for name, value in results.machine.items():
        console.print(f"[dim]{name:>10}[/]  {value}")
    table = Table(box=None, padding=(0, 2))
    for heading in ("figure", "bare pipeline", "Pointsman", "ratio"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for row in table_rows:
        table.add_row(row.figure, row.bare, row.pointsman, row.ratio)
    console.print(table)
    for note in results.notes:
        console.print(f"[yellow]{note}[/]")


def write_json(results: Results, table_rows: list[Row], path: Path) -> None:
    """Write everything, each round and each latency, for machines."""
    path.write_text(json.dumps({**asdict(results), "table": [asdict(row) for row in table_rows]}, indent=1))
