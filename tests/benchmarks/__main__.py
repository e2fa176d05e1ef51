"""`make bench`: Pointsman beside a bare pipeline and beside itself, in one run on one machine."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from tests.benchmarks import machine
from tests.benchmarks.backlog import backlog
from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.curve import curve
from tests.benchmarks.growth import days, growth
from tests.benchmarks.lists import lists
from tests.benchmarks.memory import memory
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.report import Report
from tests.benchmarks.scaling import scaling
from tests.benchmarks.scenarios import scenarios
from tests.benchmarks.sink import Sink
from tests.benchmarks.templates import templates
from tests.benchmarks.wrk import Load

NEEDED = {"wrk": "wrk", "nginx": "nginx-light"}
SECTIONS: dict[str, Callable[[Bench], None]] = {
    "compare": compare,
    "scaling": scaling,
    "scenarios": scenarios,
    "templates": templates,
    "growth": growth,
    "days": days,
    "lists": lists,
    "backlog": backlog,
    "memory": memory,
    "curve": curve,
}
QUICK_HISTORY = 20_000
ROUNDS = 3

# An interval needs more of them than a median.
ROUNDS_BESIDE = 9


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help=f"How often each thing is measured; medians are shown. [default: {ROUNDS}; {ROUNDS_BESIDE} with --beside]",
)
@click.option("--seconds", default=6, show_default=True, help="Length of one burst of load.")
@click.option("--connections", default=64, show_default=True, help="Connections of the load generator.")
@click.option("--idle", default=200, show_default=True, help="Triggers sent one at a time for idle latency.")
@click.option(
    "--history", default=5_000_000, show_default=True, help="Old executions that `growth` and `lists` make."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write everything that was measured."
)
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write the tables.")
@click.option(
    "--plot", "plot_path", type=click.Path(path_type=Path), help="Draw `curve` into this PNG or SVG file."
)
@click.option(
    "--beside",
    metavar="REF",
    help="Let `compare` measure this checkout by another version, a commit or a branch, instead of the bare pipelines.",
)
@click.option(
    "--quick", is_flag=True, help="Everything once and briefly: does it work? The figures mean little."
)
def main(
    sections: tuple[str, ...],
    rounds: int | None,
    seconds: int,
    connections: int,
    idle: int,
    history: int,
    json_path: Path | None,
    markdown_path: Path | None,
    plot_path: Path | None,
    beside: str | None,
    quick: bool,
) -> None:
    """Measure Pointsman beside bare Flask + Celery pipelines, beside itself, and beside another
    version of itself.

    SECTIONS: compare (all sides in every figure), scaling (more processes), scenarios (other work),
    templates, growth (old executions in the tables), days (400 of them), lists (of the management
    API, as a small tenant), backlog (a weekend without workers), memory, curve (latency against
    offered load). By default all of them, which takes about an hour and a half.
    """
    _must_have_tools()
    if beside is not None and sections != ("compare",):
        raise click.UsageError("--beside is for `compare`, alone.")
    rounds = rounds or (ROUNDS if beside is None else ROUNDS_BESIDE)
    if quick:
        rounds, seconds, idle, history = 1, 2, 30, QUICK_HISTORY
    console = Console(width=None if sys.stdout.isatty() else 130)
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
        report = Report(machine.describe(folder), shlex.join(["make", "bench", *sys.argv[1:]]))
        nginx = stack.enter_context(Nginx(folder / "nginx"))
        sink = stack.enter_context(Sink())
        load = Load(seconds, connections, folder)
        bench = Bench(
            folder, nginx, sink, load, rounds, idle, history, quick, plot_path, beside, report, console
        )
        try:
            for name, section in SECTIONS.items():
                if name in (sections or SECTIONS):
                    bench.say(f"── {name}")
                    section(bench)
        finally:  # a section that fails does not take the others' findings with it
            _hand_over(report, console, json_path, markdown_path)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that nothing is left behind."""
    raise KeyboardInterrupt


def _hand_over(report: Report, console: Console, json_path: Path | None, markdown_path: Path | None) -> None:
    report.show(console)
    for path, write in ((json_path, report.write_json), (markdown_path, report.write_markdown)):
        if path is not None:
            write(path)
            console.print(f"written: {path}")


def _must_have_tools() -> None:
    missing = {tool: package for tool, package in NEEDED.items() if not _is_there(tool)}
    if missing:
        click.echo(f"The benchmark needs {' and '.join(missing)}, which this machine lacks.", err=True)
        click.echo(f"On Debian or Ubuntu: apt-get install {' '.join(missing.values())}", err=True)
        sys.exit(2)


def _is_there(tool: str) -> bool:
    return bool(shutil.which(tool)) or Path(f"/usr/sbin/{tool}").exists()


if __name__ == "__main__":
    main(prog_name="make bench")
