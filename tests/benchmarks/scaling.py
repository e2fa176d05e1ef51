"""More processes: how far one and two workers, and one and two API processes, go on this
machine.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ratio, with_spread
from tests.benchmarks.pipeline import Bare
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import Throughput

# Workers, API processes.
PROCESSES = ((1, 1), (2, 1), (1, 2), (2, 2))


def scaling(bench: Bench) -> None:
    """Each number of processes in turns with the bare pipeline."""
    rows = []
    raw = []
    with Bare(bench.folder / "scaling-bare", bench.targets) as bare:
        bench.warm_up(bare)
        for workers, api_processes in PROCESSES:
            folder = bench.folder / f"scaling-{workers}-{api_processes}"
            name = f"{workers} worker{'s' * (workers > 1)}, {api_processes} API process{'es' * (api_processes > 1)}"
            with Pointsman(folder, bench.targets, workers=workers, api_processes=api_processes) as pointsman:
                bench.warm_up(pointsman)
                pairs = bench.pairs(bare, pointsman, f"{bare.name} beside {name}", name)
            raw.append(
                {
                    "workers": workers,
                    "apiProcesses": api_processes,
                    "pairs": [[asdict(a), asdict(b)] for a, b in pairs],
                }
            )
            rows.append(_row(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    bench.report.raw["scaling"] = raw
    headings = [
        "Pointsman with",
        "bare executed/s",
        "accepted/s",
        "executed/s",
        "ratio of executed/s",
        "CPU µs per trigger",
    ]
    bench.report.tables.append(Table("More processes (one action)", headings, rows))


def _row(name: str, bare: list[Throughput], pointsman: list[Throughput]) -> list[str]:
    executed = [[one.executed_per_second for one in side] for side in (bare, pointsman)]
    return [
        name,
        with_spread(executed[0]),
        with_spread([one.accepted_per_second for one in pointsman]),
        with_spread(executed[1]),
        ratio(statistics.median(executed[1]), statistics.median(executed[0])),
        with_spread([one.total_cpu_us for one in pointsman]),
    ]
