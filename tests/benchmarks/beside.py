"""`compare --beside REF`: this checkout and another version of Pointsman in turns, without a bare
pipeline.

Both run side by side all the time and are loaded in turns, so that each round's pair is measured
within a minute. Which comes first alternates. Both get the same paced load: half of what REF
executes.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from tests.benchmarks.bench import Bench, in_turn
from tests.benchmarks.checkout import Checkout, checked_out
from tests.benchmarks.figures import percentile
from tests.benchmarks.paired import compare_rounds
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import GROUPS, Throughput
from tests.benchmarks.turns import HALF, IDLE, Latencies, accepted_alone, half_rate, latencies

# The rest, which starts and watches the others, does nothing meanwhile.
SHOWN_GROUPS = GROUPS[:-1]

# Of fewer a bootstrap's interval is narrower than it should be.
ENOUGH_ROUNDS = 6


@dataclass
class Rounds:
    """What the rounds found of one version.

    alone: accepted/s with the workers frozen. latencies: in seconds.
    """

    bursts: list[Throughput] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    latencies: list[Latencies] = field(default_factory=list)


def beside(bench: Bench, reference: str) -> None:
    """Every figure of both versions, their ratio and how sure it is."""
    here = Checkout.this()
    here.must_import_itself()
    with checked_out(reference, bench.folder / "beside") as there:
        bench.say(f"{there.name} runs from a worktree of its own")
        with (
            Pointsman(bench.folder / "beside-this", bench.targets, checkout=here) as this,
            Pointsman(bench.folder / "beside-other", bench.targets, checkout=there) as other,
        ):
            found = _measure(bench, this, other)
    bench.report.raw["beside"] = {name: asdict(rounds) for name, rounds in found.items()}
    bench.report.tables.append(show(found[this.name], found[other.name], other.name))
    if bench.rounds < ENOUGH_ROUNDS:
        bench.report.notes.append(f"fewer than {ENOUGH_ROUNDS} rounds say too little for an interval")


def _measure(bench: Bench, this: Pointsman, other: Pointsman) -> Mapping[str, Rounds]:
    found: dict[str, Rounds] = defaultdict(Rounds)
    for side in (this, other):
        bench.warm_up(side)
    for number in range(bench.rounds):
        turn = in_turn(number, this, other)
        for side in turn:
            label = f"round {number + 1}/{bench.rounds}  {side.name}"
            found[side.name].bursts.append(bench.burst(side, label))
        for side in turn:
            found[side.name].alone.append(accepted_alone(bench, side))
        rate = half_rate(found[other.name].bursts)
        for side in turn:
            found[side.name].latencies.append(latencies(bench, side, {HALF: rate}))
    return found


def show(this: Rounds, other: Rounds, name: str) -> Table:
    """The table. name: of the other version."""
    headings = ["figure", name, "this checkout", "ratio", "95 % interval"]
    rows = [
        _row(figure, _all(value, this), _all(value, other), digits)
        for figure, (value, digits) in _figures().items()
    ]
    return Table(f"This checkout beside {name}", headings, rows)


Value = Callable[[Rounds, int], float]
"""What one figure came to in a round."""


def _all(value: Value, rounds: Rounds) -> list[float]:
    return [value(rounds, number) for number in range(len(rounds.bursts))]


def _figures() -> dict[str, tuple[Value, int]]:
    """Each figure and its digits."""
    figures: dict[str, tuple[Value, int]] = {
        "accepted/s": (lambda rounds, number: rounds.bursts[number].accepted_per_second, 0),
        "executed/s": (lambda rounds, number: rounds.bursts[number].executed_per_second, 0),
        "accepted/s, workers frozen": (lambda rounds, number: rounds.alone[number], 0),
        "CPU µs per trigger": (lambda rounds, number: rounds.bursts[number].total_cpu_us, 0),
    }
    figures |= {f"– {group}": (_cpu_of(group), 0) for group in SHOWN_GROUPS}
    for load in (IDLE, HALF):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            figures[f"trigger to delivered, {load}, {name} (ms)"] = (_latency(load, share), 1)
    return figures


def _cpu_of(group: str) -> Value:
    return lambda rounds, number: rounds.bursts[number].cpu_us[group]


def _latency(load: str, share: float) -> Value:
    return lambda rounds, number: percentile(rounds.latencies[number][load], share) * 1000


def _row(figure: str, this: Sequence[float], other: Sequence[float], digits: int) -> list[str]:
    """Medians, their ratio and its interval; a star where the interval excludes 1.

    No interval of few rounds.
    """
    medians = [f"{statistics.median(values):,.{digits}f}" for values in (other, this)]
    found = compare_rounds(this, other)
    if found is None:
        return [figure, *medians, "–", "–"]
    if len(this) < ENOUGH_ROUNDS:
        return [figure, *medians, f"{found.value:.3f}", "–"]
    star = " *" if found.is_clear else ""
    return [figure, *medians, f"{found.value:.3f}{star}", f"{found.low:.3f} to {found.high:.3f}"]
