"""What processes hold: with a thousand deliveries that hang, and after many triggers."""

from __future__ import annotations

import asyncio
import time

import uvloop

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ratio
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.processes import usage_of
from tests.benchmarks.report import Table
from tests.benchmarks.wire import Posts

HANGING = 1_000

# For all of them to be under way.
HANG_SECONDS = 60.0

# Triggers.
WARM, MANY = 20_000, 200_000
MIB = 2**20


def memory(bench: Bench) -> None:
    """Both, each on an installation of its own."""
    rows = [_hanging(bench), *_after_many(bench)]
    headings = ["resident memory (MiB)", "before", "after", "ratio"]
    bench.report.tables.append(Table("Memory", headings, rows))


def _resident_mib(side: Pointsman, group: str) -> float:
    return usage_of(side.groups()[group]).resident_bytes / MIB


def _hanging(bench: Bench) -> list[str]:
    """A worker with room for a thousand whose receiver never answers."""
    with Pointsman(bench.folder / "hanging", {"nginx": bench.nginx.url}, capacity=HANGING) as side:
        bench.warm_up(side)
        callback = side.running.callback(bench.sink.url("/hang"), timeoutDuration=int(HANG_SECONDS * 1000))
        before = _resident_mib(side, "worker")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_fire(callback["triggerUrl"]))
        deadline = time.monotonic() + HANG_SECONDS
        while bench.sink.hanging < HANGING:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {bench.sink.hanging} deliveries hang")
            time.sleep(0.1)
        time.sleep(1)
        after = _resident_mib(side, "worker")
        bench.sink.release()
    bench.say(f"worker with {HANGING} deliveries that hang: {before:.0f} → {after:.0f} MiB")
    bench.report.raw["hanging"] = {"before": before, "after": after}
    return [
        f"worker, {HANGING:,} deliveries that hang",
        f"{before:.0f}",
        f"{after:.0f}",
        ratio(after, before),
    ]


async def _fire(url: str) -> None:
    posts = Posts(url)
    answers = await asyncio.gather(*(posts.post(b"{}") for _ in range(HANGING)))
    assert set(answers) == {202}, set(answers)
    posts.close()


def _after_many(bench: Bench) -> list[list[str]]:
    """Resident memory once warm, and after ten times as many triggers."""
    groups = ("API", "worker", "Redis", "the rest")
    warm_at, many_at = (WARM // 10, MANY // 10) if bench.quick else (WARM, MANY)
    warm: dict[str, float] = {}
    done = 0
    with Pointsman(bench.folder / "many", bench.targets) as side:
        while done < many_at:
            before = bench.nginx.count()
            bench.burst(side, f"memory after {done:,} of {many_at:,} triggers")
            done += bench.nginx.count() - before
            if not warm and done >= warm_at:
                warm = {group: _resident_mib(side, group) for group in groups}
        many = {group: _resident_mib(side, group) for group in groups}
    bench.report.raw["afterMany"] = {"warm": warm, "many": many, "triggers": done}
    return [
        [
            f"{g}, after {warm_at:,} and after {many_at:,} triggers",
            f"{warm[g]:.0f}",
            f"{many[g]:.0f}",
            ratio(many[g], warm[g]),
        ]
        for g in groups
    ]
