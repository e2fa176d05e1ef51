"""The bare pipeline beside Pointsman, in turns, in every figure that both have."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial

from tests.benchmarks import paced
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import in_ms, median_and_spread, percentile, ratio, with_spread
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import GROUPS, Throughput
from tests.benchmarks.sides import Bare, Pointsman, Side

PACED_SECONDS = 6.0
SHARES = (("p50", 0.5), ("p99", 0.99))


@dataclass
class Found:
    """What each round found. Latencies in seconds, by side and load; answers by the state of Redis."""

    bare: list[Throughput] = field(default_factory=list)
    pointsman: list[Throughput] = field(default_factory=list)
    constant_per_second: dict[str, list[float]] = field(default_factory=dict)
    alone_per_second: list[float] = field(default_factory=list)
    latencies: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    answers: dict[str, list[list[float]]] = field(default_factory=dict)


def compare(bench: Bench) -> None:
    """Throughput, cost, latency and memory of both sides; of Pointsman also without Redis."""
    found = Found()
    with (
        Bare(bench.folder / "compare-bare", bench.targets) as bare,
        Pointsman(bench.folder / "compare-pointsman", bench.targets) as pointsman,
    ):
        for side in (bare, pointsman):
            bench.warm_up(side)
        for number in range(1, bench.rounds + 1):
            label = f"round {number}/{bench.rounds}"
            found.bare.append(bench.burst(bare, f"{label}  {bare.name}"))
            found.pointsman.append(bench.burst(pointsman, f"{label}  {pointsman.name}"))
            _accept_alone(bench, bare, pointsman, found)
            _latencies(bench, bare, found.bare, found)
            _latencies(bench, pointsman, found.pointsman, found)
            _answers_without_redis(bench, pointsman, found)
        rows = _rows(found, bare.name, pointsman.name)
    bench.report.raw["compare"] = asdict(found)
    title = "Beside a bare pipeline (one action, one worker and one API process)"
    bench.report.tables.append(Table(title, ["figure", "bare pipeline", "Pointsman", "ratio"], rows))


def _accept_alone(bench: Bench, bare: Bare, pointsman: Pointsman, found: Found) -> None:
    """A burst while the workers are frozen, beside views that answer a constant."""
    for name, url in bare.constant_urls.items():
        constant = bench.load.post(url)
        found.constant_per_second.setdefault(name, []).append(constant.accepted / constant.seconds)
    before = bench.nginx.count()
    with pointsman.frozen("worker"):
        alone = bench.load.post(pointsman.urls["nginx"])
    found.alone_per_second.append(alone.accepted / alone.seconds)
    pointsman.drain(alone.accepted, bench.nginx, before)
    constants = ", ".join(f"{name} {values[-1]:,.0f}/s" for name, values in found.constant_per_second.items())
    bench.say(
        f"  constant view: {constants}; Pointsman with its workers stopped: {found.alone_per_second[-1]:,.0f}/s"
    )


def half_rate(throughput: Sequence[Throughput]) -> float:
    """Half of what a side executed in a second, up to now."""
    return statistics.median(one.executed_per_second for one in throughput) / 2


def _latencies(bench: Bench, side: Side, throughput: Sequence[Throughput], found: Found) -> None:
    """Trigger to delivered: one at a time, then at half of the side's own rate."""
    rate = half_rate(throughput)
    url = side.urls["sink"]
    idle = paced.one_at_a_time(url, bench.sink, bench.idle)
    half = paced.at_rate(url, bench.sink, rate, PACED_SECONDS)
    loads = found.latencies.setdefault(side.name, {"idle": [], "half load": []})
    loads["idle"].append(idle)
    loads["half load"].append(half)
    bench.say(
        f"  {side.name}, trigger to delivered: idle p50 {in_ms(idle, 0.5)} ms, p99 {in_ms(idle, 0.99)} ms; "
        f"at {rate:,.0f}/s p50 {in_ms(half, 0.5)} ms, p99 {in_ms(half, 0.99)} ms"
    )


def _answers_without_redis(bench: Bench, pointsman: Pointsman, found: Found) -> None:
    """How long callers wait for their 202 at half of the rate, with Redis and with Redis frozen."""
    rate = half_rate(found.pointsman)
    for redis, state in (("answering", nullcontext()), ("frozen", pointsman.frozen("Redis"))):
        before = bench.nginx.count()
        with state:
            answers = paced.answers_at_rate(pointsman.urls["nginx"], rate, PACED_SECONDS)
        found.answers.setdefault(redis, []).append(answers.seconds)
        bench.say(f"  {pointsman.name}, answer with Redis {redis}: p99 {in_ms(answers.seconds, 0.99)} ms")
        if answers.refused:
            bench.report.notes.append(f"Redis {redis}: refused {dict(answers.refused)}")
        pointsman.drain(len(answers.seconds), bench.nginx, before)


def _rows(found: Found, bare: str, pointsman: str) -> list[list[str]]:
    rows = [
        _throughput_row("accepted/s", found, lambda one: one.accepted_per_second),
        _throughput_row("executed/s", found, lambda one: one.executed_per_second),
        *(
            _spread_row(
                f"accepted/s, workers stopped (bare: constant view, {server})",
                constant,
                found.alone_per_second,
            )
            for server, constant in found.constant_per_second.items()
        ),
        _throughput_row("CPU µs per trigger, all but load and receiver", found, lambda one: one.total_cpu_us),
    ]
    rows += [_throughput_row(f"– {group}", found, partial(_cpu_us, group)) for group in GROUPS]
    for load in ("idle", "half load"):
        one, other = (found.latencies[side][load] for side in (bare, pointsman))
        rows += [
            _spread_row(
                f"trigger to delivered, {load}, {name} (ms)", _in_ms(one, share), _in_ms(other, share), 1
            )
            for name, share in SHARES
        ]
    for redis, rounds in found.answers.items():
        rows += [
            [
                f"answer at half load, Redis {redis}, {name} (ms)",
                "–",
                with_spread(_in_ms(rounds, share), 1),
                "–",
            ]
            for name, share in SHARES
        ]
    for group in GROUPS:
        peaks = [max(one.peak_mib[group] for one in side) for side in (found.bare, found.pointsman)]
        rows.append(
            [
                f"peak memory, {group} (MiB)",
                *(f"{peak:.0f}" for peak in peaks),
                ratio(peaks[1], peaks[0]),
            ]
        )
    return rows


def _cpu_us(group: str, one: Throughput) -> float:
    return one.cpu_us[group]


def _throughput_row(figure: str, found: Found, value: Callable[[Throughput], float]) -> list[str]:
    return _spread_row(figure, [value(one) for one in found.bare], [value(one) for one in found.pointsman])


def _spread_row(figure: str, one: Sequence[float], other: Sequence[float], digits: int = 0) -> list[str]:
    times = ratio(median_and_spread(other)[0], median_and_spread(one)[0])
    return [figure, with_spread(one, digits), with_spread(other, digits), times]


def _in_ms(rounds: Sequence[Sequence[float]], share: float) -> list[float]:
    """This percentile of each round."""
    return [percentile(seconds, share) * 1000 for seconds in rounds]
