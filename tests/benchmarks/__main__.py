"""`make bench`: Pointsman and the bare pipeline, in turns, in one run on one machine."""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from tests.benchmarks import machine, paced
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.report import Results, rows, show, write_json
from tests.benchmarks.rounds import measure
from tests.benchmarks.sides import Bare, Pointsman, Side
from tests.benchmarks.wrk import Load
from tests.peers.receiver import Receiver

NEEDED = {"wrk": "wrk", "nginx": "nginx-light"}
WARM_UP_SECONDS = 2
HALF_LOAD_SECONDS = 8.0
ANSWERS_SECONDS = 10.0
BUSY_ELSEWHERE = 0.1  # share of the machine that may be used by others before the reader is told


@click.command()
@click.option(
    "--rounds", default=3, show_default=True, help="How often each side is measured; medians are shown."
)
@click.option("--seconds", default=6, show_default=True, help="Length of one burst of load.")
@click.option("--connections", default=64, show_default=True, help="Connections of the load generator.")
@click.option("--workers", default=1, show_default=True, help="Worker processes of Pointsman.")
@click.option("--idle", default=200, show_default=True, help="Triggers sent one at a time for idle latency.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write everything that was measured."
)
@click.option("--quick", is_flag=True, help="One short round: does it work? The figures mean little.")
def main(
    rounds: int, seconds: int, connections: int, workers: int, idle: int, json_path: Path | None, quick: bool
) -> None:
    """Measure Pointsman beside a bare Flask + Celery pipeline."""
    _must_have_tools()
    if quick:
        rounds, seconds, idle = 1, 2, 30
    console = Console(width=None if sys.stdout.isatty() else 110)
    results = Results(machine.describe(), shlex.join(["make", "bench", *sys.argv[1:]]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
        for name in ("nginx", "bare"):
            (folder / name).mkdir()
        nginx = stack.enter_context(Nginx(folder / "nginx"))
        receiver = stack.enter_context(Receiver())
        targets = {"nginx": nginx.url, "receiver": receiver.url("/ok")}
        console.print("starting both sides")
        bare = stack.enter_context(Bare(folder, targets))
        pointsman = stack.enter_context(Pointsman(folder, targets, workers))
        bench = Bench(bare, pointsman, nginx, Load(seconds, connections, folder), results, console)
        bench.warm_up()
        for number in range(1, rounds + 1):
            bench.throughput(f"round {number}/{rounds}")
            bench.accept_alone()
        bench.latencies(receiver, idle)
        bench.answers_without_redis()
    table = rows(results, bare.name, pointsman.name)
    show(results, table, console)
    if json_path is not None:
        write_json(results, table, json_path)
        console.print(f"everything is in {json_path}")


def _must_have_tools() -> None:
    missing = {tool: package for tool, package in NEEDED.items() if not _is_there(tool)}
    if missing:
        click.echo(f"The benchmark needs {' and '.join(missing)}, which this machine lacks.", err=True)
        click.echo(f"On Debian or Ubuntu: apt-get install {' '.join(missing.values())}", err=True)
        sys.exit(2)


def _is_there(tool: str) -> bool:
    return bool(shutil.which(tool)) or Path(f"/usr/sbin/{tool}").exists()


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: both sides, what loads them and what was found."""

    bare: Bare
    pointsman: Pointsman
    nginx: Nginx
    load: Load
    results: Results
    console: Console

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.bare, self.pointsman)

    def warm_up(self) -> None:
        for side in self.sides:
            self.console.print(f"warming up: {side.name}")
            measure(side, self.nginx, replace(self.load, seconds=WARM_UP_SECONDS))

    def throughput(self, label: str) -> None:
        """A burst against each side, and its drain."""
        for side in self.sides:
            found = measure(side, self.nginx, self.load)
            self.results.throughput.setdefault(side.name, []).append(found)
            self.console.print(
                f"{label}  {side.name}: {found.accepted_per_second:,.0f} accepted/s, "
                f"{found.executed_per_second:,.0f} executed/s, {sum(found.cpu_us.values()):,.0f} µs CPU per trigger"
            )
            if found.refused:
                self.results.notes.append(f"{label}: {side.name} refused {found.refused} requests")
            if found.elsewhere > BUSY_ELSEWHERE:
                self.results.notes.append(
                    f"{label}: others used {found.elsewhere:.0%} of the machine during {side.name}'s burst"
                )

    def accept_alone(self) -> None:
        """A burst while the workers are frozen, beside views that answer a constant."""
        for name, url in self.bare.constant_urls.items():
            constant = self.load.post(url)
            self.results.constant_per_second.setdefault(name, []).append(constant.accepted / constant.seconds)
        before = self.nginx.count()
        with self.pointsman.frozen("worker"):
            alone = self.load.post(self.pointsman.urls["nginx"])
        self.results.accept_alone_per_second.append(alone.accepted / alone.seconds)
        self.pointsman.drain(alone.accepted, self.nginx, before)
        constants = ", ".join(
            f"{name} {found[-1]:,.0f}/s" for name, found in self.results.constant_per_second.items()
        )
        self.console.print(
            f"  constant view: {constants}; "
            f"Pointsman with its workers stopped: {self.results.accept_alone_per_second[-1]:,.0f}/s"
        )

    def latencies(self, receiver: Receiver, idle: int) -> None:
        """Trigger to delivered: one at a time, then at half of each side's own rate."""
        for side in self.sides:
            rate = statistics.median(r.executed_per_second for r in self.results.throughput[side.name]) / 2
            self.console.print(f"latency  {side.name}: idle, then at {rate:,.0f}/s")
            self.results.latencies[side.name] = {
                "idle": paced.one_at_a_time(side.urls["receiver"], receiver, idle),
                "half load": paced.at_rate(side.urls["receiver"], receiver, rate, HALF_LOAD_SECONDS),
            }

    def answers_without_redis(self) -> None:
        """How long callers of Pointsman wait for their 202 at half of its rate, with Redis and with Redis frozen."""
        executed = self.results.throughput[self.pointsman.name]
        rate = statistics.median(r.executed_per_second for r in executed) / 2
        url = self.pointsman.urls["nginx"]
        self.console.print(
            f"answers  {self.pointsman.name} at {rate:,.0f}/s: with Redis, then with Redis frozen"
        )
        for redis, state in (("answering", nullcontext()), ("frozen", self.pointsman.frozen("Redis"))):
            before = self.nginx.count()
            with state:
                load = paced.answers_at_rate(url, rate, ANSWERS_SECONDS)
            self.results.answers[redis] = load.seconds
            if load.refused:
                self.results.notes.append(f"Redis {redis}: refused {dict(load.refused)}")
            self.pointsman.drain(len(load.accepted), self.nginx, before)


if __name__ == "__main__":
    main(prog_name="make bench")
