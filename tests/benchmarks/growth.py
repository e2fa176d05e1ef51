"""Old executions in the tables, half of them of today: does what has happened make what happens dearer?

Two installations in turns, one of which is filled stage by stage. Both also keep what the runs themselves leave behind.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict

import psycopg2

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ratio, with_spread
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import Throughput
from tests.history import fill

STAGES = (0.0, 0.2, 1.0)  # of the whole history
STEP = 250_000  # triggers made in one statement


def growth(bench: Bench) -> None:
    """Each stage: fill, tidy up as autovacuum would, then bursts in turns."""
    rows, raw, there = [], [], 0
    with (
        Pointsman(bench.folder / "growth-empty", bench.targets) as empty,
        Pointsman(bench.folder / "growth-filled", bench.targets) as filled,
    ):
        for side in (empty, filled):
            bench.warm_up(side)
        for stage in STAGES:
            wanted = int(bench.history * stage)
            _fill(bench, filled, there, wanted)
            there = wanted
            for side in (empty, filled):
                side.do("VACUUM (ANALYZE)")
                side.do("CHECKPOINT")
            name = f"{wanted:,} old executions"
            pairs = [
                (bench.burst(empty, f"empty beside {name}"), bench.burst(filled, name))
                for _ in range(bench.rounds)
            ]
            raw.append({"executions": wanted, "pairs": [[asdict(a), asdict(b)] for a, b in pairs]})
            rows.append(_row(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    bench.report.raw["growth"] = raw
    headings = [
        "tables with",
        "empty, executed/s",
        "executed/s",
        "ratio",
        "CPU µs per trigger",
        "PostgreSQL alone",
    ]
    bench.report.tables.append(Table("Growth with history (one action)", headings, rows))


def _fill(bench: Bench, side: Pointsman, there: int, wanted: int) -> None:
    """Make settled triggers of the measured callback, until there are so many; half of them of today, half of yesterday."""
    callback_id, user_id, action_id = side.ask(
        "SELECT array[c.id, c.user_id, a.id]::text[] FROM callbacks c JOIN actions a ON a.callback_id = c.id"
        " ORDER BY c.id LIMIT 1"
    )
    connection = psycopg2.connect(side.running.database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        while there < wanted:
            step = min(STEP, wanted - there)
            for days_ago in (0, 1):
                fill(cursor, callback_id, user_id, action_id, step // 2, days_ago=days_ago)
            there += step
            bench.say(f"  history: {there:,} of {wanted:,} executions")
    connection.close()


def _row(name: str, empty: list[Throughput], filled: list[Throughput]) -> list[str]:
    executed = [[one.executed_per_second for one in side] for side in (empty, filled)]
    return [
        name,
        with_spread(executed[0]),
        with_spread(executed[1]),
        ratio(statistics.median(executed[1]), statistics.median(executed[0])),
        with_spread([one.total_cpu_us for one in filled]),
        with_spread([one.cpu_us["PostgreSQL"] for one in filled]),
    ]
