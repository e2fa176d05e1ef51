"""What has gathered in the tables: does it make what happens dearer? Old executions (`growth`), and
partitions of 400 days (`days`).

Installations in turns: one that stays empty, and one that is filled stage by stage, half of it of
today, or that has a partition for each of 400 past days. All of them also keep what the bursts
themselves leave behind.
"""

from __future__ import annotations

import statistics
from contextlib import closing
from dataclasses import asdict

import psycopg2

from shared.postgres.partitions import ensure_partitions, missing_partitions
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ratio, with_spread
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import Throughput
from tests.history import fill

# Of the whole history.
STAGES = (0.0, 0.2, 1.0)

# Triggers made in one statement.
STEP = 250_000

# More than the longest retention of any plan.
DAYS = 400

# In one transaction, which holds locks on all of their tables and indexes.
DAYS_AT_ONCE = 50
HEADINGS = (
    "tables with",
    "empty or few, executed/s",
    "executed/s",
    "ratio",
    "CPU µs per trigger",
    "PostgreSQL alone",
)


def growth(bench: Bench) -> None:
    """Each stage: fill, then bursts in turns."""
    rows, raw = [], []
    with (
        Pointsman(bench.folder / "growth-empty", bench.targets) as empty,
        Pointsman(bench.folder / "growth-filled", bench.targets) as filled,
    ):
        for side in (empty, filled):
            bench.warm_up(side)
        there = 0
        for stage in STAGES:
            wanted = int(bench.history * stage)
            _fill(bench, filled, there, wanted)
            there = wanted
            bench.settle(filled)
            name = f"{wanted:,} old executions"
            pairs = bench.pairs(empty, filled, f"empty beside {name}", name)
            raw.append({"executions": wanted, "pairs": [[asdict(a), asdict(b)] for a, b in pairs]})
            rows.append(_row(name, pairs))
    bench.report.raw["growth"] = raw
    bench.report.tables.append(Table("Growth with history (one action)", HEADINGS, rows))


def days(bench: Bench) -> None:
    """Bursts in turns: with a week of partitions, and with many more."""
    with (
        Pointsman(bench.folder / "days-few", bench.targets) as few,
        Pointsman(bench.folder / "days-many", bench.targets) as many,
    ):
        name = f"{DAYS} days of partitions"
        made = _make_partitions(many)
        for side in (few, many):
            bench.warm_up(side)
        pairs = bench.pairs(few, many, f"few beside {name}", name)
        _must_be_there(many, made)
    bench.report.raw["days"] = {"partitions": made, "pairs": [[asdict(a), asdict(b)] for a, b in pairs]}
    bench.report.tables.append(Table("Days of partitions (one action)", HEADINGS, [_row(name, pairs)]))


def _make_partitions(side: Pointsman) -> int:
    """Make the partitions of the past days; how many there are now."""
    with closing(psycopg2.connect(side.running.database_url)) as connection:
        for days in range(DAYS_AT_ONCE, DAYS + 1, DAYS_AT_ONCE):
            with connection, connection.cursor() as cursor:
                ensure_partitions(cursor, days_back=days)
        with connection, connection.cursor() as cursor:
            if missing := missing_partitions(cursor, days_back=DAYS):
                raise RuntimeError(f"{len(missing)} partitions could not be made")
    return _count_partitions(side)


def _must_be_there(side: Pointsman, made: int) -> None:
    """RuntimeError when a duty of the worker has dropped partitions meanwhile: then their cost was
    not measured.
    """
    if (left := _count_partitions(side)) < made:
        raise RuntimeError(f"of {made} partitions {left} are left")


def _count_partitions(side: Pointsman) -> int:
    return int(side.ask("SELECT count(*) FROM pg_inherits"))


def _fill(bench: Bench, side: Pointsman, there: int, wanted: int) -> None:
    """Make settled triggers of the measured callback, until there are so many; half of them of
    today, half of yesterday.
    """
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


def _row(name: str, pairs: list[tuple[Throughput, Throughput]]) -> list[str]:
    filled = [pair[1] for pair in pairs]
    executed = [[pair[number].executed_per_second for pair in pairs] for number in (0, 1)]
    return [
        name,
        with_spread(executed[0]),
        with_spread(executed[1]),
        ratio(statistics.median(executed[1]), statistics.median(executed[0])),
        with_spread([one.total_cpu_us for one in filled]),
        with_spread([one.cpu_us["PostgreSQL"] for one in filled]),
    ]
