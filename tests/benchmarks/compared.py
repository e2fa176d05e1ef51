"""The table of compare.py: a row for each figure, a column for each side, and Pointsman's ratio to
each bare pipeline.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.benchmarks.figures import percentile, ratio, with_spread
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import GROUPS, Throughput
from tests.benchmarks.turns import HALF, IDLE, STEADY

if TYPE_CHECKING:
    from tests.benchmarks.compare import Found

SHARES = (("p50", 0.5), ("p99", 0.99))
TITLE = "Beside bare pipelines (one action, one worker and one API process)"


def show(found: Found, sides: Sequence[str]) -> Table:
    """Everything that was found. sides: their names, Pointsman's last."""
    *bare, pointsman = sides
    headings = ["figure", *sides, *(f"× {name}" for name in bare)]
    rows = [
        _throughput("accepted/s", found, sides, lambda one: one.accepted_per_second),
        _throughput("executed/s", found, sides, lambda one: one.executed_per_second),
        *_sustained(found, sides),
        *(
            _row(
                f"accepted/s, workers stopped (bare: constant view, {server})",
                {bare[0]: rounds, pointsman: found.alone},
                sides,
            )
            for server, rounds in found.constant.items()
        ),
        _throughput("CPU µs per trigger, all but load and receiver", found, sides, lambda o: o.total_cpu_us),
        *(_throughput(f"– {group}", found, sides, _cpu_of(group)) for group in GROUPS),
        *_latencies(found, sides),
        *_answers(found, sides),
        *(
            _row(
                f"peak memory, {g} (MiB)",
                {side: [max(o.peak_mib[g] for o in found.bursts[side])] for side in sides},
                sides,
            )
            for g in GROUPS
        ),
    ]
    return Table(TITLE, headings, rows)


def _cpu_of(group: str) -> Callable[[Throughput], float]:
    return lambda one: one.cpu_us[group]


def _throughput(
    figure: str, found: Found, sides: Sequence[str], value: Callable[[Throughput], float]
) -> list[str]:
    return _row(figure, {side: [value(one) for one in found.bursts[side]] for side in sides}, sides)


def _sustained(found: Found, sides: Sequence[str]) -> list[list[str]]:
    values: dict[str, Callable[[Throughput], float]] = {
        "accepted/s, in a minute": lambda one: one.accepted_per_second,
        "executed/s, in a minute": lambda one: one.executed_per_second,
    }
    return [
        _row(figure, {side: [value(found.sustained[side])] for side in sides}, sides)
        for figure, value in values.items()
    ]


def _latencies(found: Found, sides: Sequence[str]) -> list[list[str]]:
    return [
        _row(
            f"trigger to delivered, {load}, {name} (ms)",
            {side: _in_ms([round_[load] for round_ in found.latencies[side]], share) for side in sides},
            sides,
            1,
        )
        for load in (IDLE, STEADY, HALF)
        for name, share in SHARES
    ]


def _answers(found: Found, sides: Sequence[str]) -> list[list[str]]:
    return [
        _row(f"answer at half load, Redis {redis}, {name} (ms)", {sides[-1]: _in_ms(rounds, share)}, sides, 1)
        for redis, rounds in found.answers.items()
        for name, share in SHARES
    ]


def _row(
    figure: str, values: Mapping[str, Sequence[float]], sides: Sequence[str], digits: int = 0
) -> list[str]:
    """One figure; «–» for a side that does not have it. A single value has no spread."""
    shown = [_value(values[side], digits) if side in values else "–" for side in sides]
    mine = statistics.median(values[sides[-1]])
    times = [ratio(mine, statistics.median(values[side])) if side in values else "–" for side in sides[:-1]]
    return [figure, *shown, *times]


def _value(values: Sequence[float], digits: int) -> str:
    return with_spread(values, digits) if len(values) > 1 else f"{values[0]:,.{digits}f}"


def _in_ms(rounds: Sequence[Sequence[float]], share: float) -> list[float]:
    """This percentile of each round."""
    return [percentile(seconds, share) * 1000 for seconds in rounds]
