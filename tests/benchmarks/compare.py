"""Pointsman beside the bare pipelines, in turns, in every figure that both have; or beside another
version of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

from tests.benchmarks import paced
from tests.benchmarks.bench import Bench, in_turn
from tests.benchmarks.beside import beside
from tests.benchmarks.compared import show
from tests.benchmarks.figures import in_ms
from tests.benchmarks.pipeline import Bare
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.rounds import Throughput
from tests.benchmarks.sides import Side
from tests.benchmarks.turns import (
    HALF,
    STEADY,
    STEADY_PER_SECOND,
    Latencies,
    accepted_alone,
    half_rate,
    latencies,
    paced_seconds,
)


@dataclass
class Found:
    """What each round found, by side. sustained: one long burst. constant: of a view that does
    nothing, by its server.

    alone: accepted/s of Pointsman with its workers stopped. answers: seconds to its 202, by the
    state of Redis.
    """

    bursts: dict[str, list[Throughput]] = field(default_factory=dict)
    sustained: dict[str, Throughput] = field(default_factory=dict)
    constant: dict[str, list[float]] = field(default_factory=dict)
    alone: list[float] = field(default_factory=list)
    latencies: dict[str, list[Latencies]] = field(default_factory=dict)
    answers: dict[str, list[list[float]]] = field(default_factory=dict)


def compare(bench: Bench) -> None:
    """Throughput, cost, latency and memory of all sides; of Pointsman also without Redis."""
    if bench.beside is not None:
        beside(bench, bench.beside)
        return
    found = Found()
    with (
        Bare(bench.folder / "compare-bare", bench.targets) as bare,
        Bare(bench.folder / "compare-durable", bench.targets, durable=True) as durable,
        Pointsman(bench.folder / "compare-pointsman", bench.targets) as pointsman,
    ):
        sides: tuple[Side, ...] = (bare, durable, pointsman)
        for side in sides:
            bench.warm_up(side)
        for number in range(bench.rounds):
            turn = in_turn(number, *sides)
            for side in turn:
                label = f"round {number + 1}/{bench.rounds}  {side.name}"
                found.bursts.setdefault(side.name, []).append(bench.burst(side, label))
            _constant_views(bench, bare.constant_urls, found)
            found.alone.append(accepted_alone(bench, pointsman))
            for side in turn:
                rates = {STEADY: STEADY_PER_SECOND, HALF: half_rate(found.bursts[side.name])}
                found.latencies.setdefault(side.name, []).append(latencies(bench, side, rates))
            _answers_without_redis(bench, pointsman, found)
        for side in sides:
            found.sustained[side.name] = bench.sustained(side)
    bench.report.raw["compare"] = asdict(found)
    bench.report.tables.append(show(found, [side.name for side in sides]))


def _constant_views(bench: Bench, urls: Mapping[str, str], found: Found) -> None:
    """What accepting could come to at most: views that answer a constant."""
    for server, url in urls.items():
        constant = bench.load.post(url)
        found.constant.setdefault(server, []).append(constant.accepted / constant.seconds)
    told = (f"{server} {rounds[-1]:,.0f}/s" for server, rounds in found.constant.items())
    bench.say(f"  constant view: {', '.join(told)}")


def _answers_without_redis(bench: Bench, pointsman: Pointsman, found: Found) -> None:
    """How long callers wait for their 202 at half of the rate, with Redis and with Redis frozen."""
    rate = half_rate(found.bursts[pointsman.name])
    for redis, state in (("answering", nullcontext()), ("frozen", pointsman.frozen("Redis"))):
        before = bench.nginx.count()
        with state:
            answers = paced.answers_at_rate(pointsman.urls["nginx"], rate, paced_seconds(bench))
        found.answers.setdefault(redis, []).append(answers.seconds)
        bench.say(f"  {pointsman.name}, answer with Redis {redis}: p99 {in_ms(answers.seconds, 0.99)} ms")
        if answers.refused:
            bench.report.notes.append(f"Redis {redis}: refused {dict(answers.refused)}")
        pointsman.drain(len(answers.seconds), bench.nginx, before)
        bench.settle(pointsman)
