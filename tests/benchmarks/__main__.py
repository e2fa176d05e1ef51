"""`make bench`: Pointsman and the bare pipeline, in turns, in one run on one machine."""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from tests.benchmarks import machine, paced, wrk
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.report import Results, rows, show, write_json
from tests.benchmarks.rounds import measure
from tests.benchmarks.sides import Bare, Pointsman, Side
from tests.peers.receiver import Receiver

NEEDED = {"wrk": "wrk", "nginx": "nginx-light"}
WARM_UP_SECONDS = 2
HALF_LOAD_SECONDS = 8.0


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
        (folder / "nginx").mkdir()
        nginx = stack.enter_context(Nginx(folder / "nginx"))
        receiver = stack.enter_context(Receiver())
        targets = {"nginx": nginx.url, "receiver": receiver.url("/ok")}
        console.print("starting both sides")
        bare = stack.enter_context(Bare(folder, targets))
        pointsman = stack.enter_context(Pointsman(folder, targets, workers))
        sides: tuple[Side, ...] = (bare, pointsman)
        for side in sides:
            console.print(f"warming up: {side.name}")
            measure(side, nginx, WARM_UP_SECONDS, connections, folder)
        for number in range(1, rounds + 1):
            _throughput(
                results, sides, nginx, seconds, connections, folder, f"round {number}/{rounds}", console
            )
            _accept_alone(results, bare, pointsman, nginx, seconds, connections, folder, console)
        _latencies(results, sides, receiver, idle, console)
        if nginx.count() < 0:
            results.notes.append("nginx counted fewer requests than were asked of it")
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


def _throughput(
    results: Results,
    sides: tuple[Side, ...],
    nginx: Nginx,
    seconds: int,
    connections: int,
    folder: Path,
    label: str,
    console: Console,
) -> None:
    for side in sides:
        found = measure(side, nginx, seconds, connections, folder)
        results.throughput.setdefault(side.name, []).append(found)
        console.print(
            f"{label}  {side.name}: {found.accepted_per_second:,.0f} accepted/s, "
            f"{found.executed_per_second:,.0f} executed/s, {sum(found.cpu_us.values()):,.0f} µs CPU per trigger"
        )
        if found.refused:
            results.notes.append(f"{label}: {side.name} refused {found.refused} requests")


def _accept_alone(
    results: Results,
    bare: Bare,
    pointsman: Pointsman,
    nginx: Nginx,
    seconds: int,
    connections: int,
    folder: Path,
    console: Console,
) -> None:
    constant = wrk.post(bare.constant_url, seconds, connections, folder)
    results.constant_per_second.append(constant.accepted / constant.seconds)
    before = nginx.count()
    pointsman.pause_workers(True)
    try:
        alone = wrk.post(pointsman.urls["nginx"], seconds, connections, folder)
    finally:
        pointsman.pause_workers(False)
    results.accept_alone_per_second.append(alone.accepted / alone.seconds)
    pointsman.wait_until_executed(alone.accepted, nginx, before)
    console.print(
        f"  constant view {results.constant_per_second[-1]:,.0f}/s, "
        f"Pointsman with its workers stopped {results.accept_alone_per_second[-1]:,.0f}/s"
    )


def _latencies(
    results: Results, sides: tuple[Side, ...], receiver: Receiver, idle: int, console: Console
) -> None:
    for side in sides:
        rate = statistics.median(r.executed_per_second for r in results.throughput[side.name]) / 2
        console.print(f"latency  {side.name}: idle, then at {rate:,.0f}/s")
        results.latencies[side.name] = {
            "idle": paced.one_at_a_time(side.urls["receiver"], receiver, idle),
            "half load": paced.at_rate(side.urls["receiver"], receiver, rate, HALF_LOAD_SECONDS),
        }


if __name__ == "__main__":
    main(prog_name="make bench")
