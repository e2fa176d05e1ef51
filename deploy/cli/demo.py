"""`pointsman demo`: fire the demo callback and watch its executions move, live."""

from __future__ import annotations

import time
from typing import Any

import click
import httpx
from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.local.state import DataFolder
from shared import config
from shared.errors import StartupError

POLL_SECONDS = 0.05
REQUEST_SECONDS = 5.0
STYLES = {"PENDING": "dim", "RUNNING": "bold yellow", "SUCCESS": "bold green", "FAILED": "bold red"}
SIGNS = {"PENDING": "·", "RUNNING": "▶", "SUCCESS": "✓", "FAILED": "✗"}
ENDED = ("SUCCESS", "FAILED")

# Columns that give way in a narrow terminal.
MAY_BE_LONG = ("action", "result")


@click.command()
@click.option("--times", default=1, show_default=True, help="How many triggers to fire, one after the other.")
@click.option("--wait", "wait_seconds", default=30.0, show_default=True, help="Seconds to wait for each.")
def demo(times: int, wait_seconds: float) -> None:
    """Fire the demo callback of a running Pointsman and watch its steps live."""
    data = DataFolder(config.read().data_dir)
    running, known = data.read("run.json"), data.read("demo.json")
    if not running:
        raise StartupError(
            "No running Pointsman is known here.", hint="Start it with `make run` in another terminal."
        )
    if not known.get("apiKey"):
        raise StartupError(
            "The demo callback is gone.", hint="Remove demo.json from the data folder and run again."
        )
    console = Console()
    headers = {"authorization": f"Bearer {known['apiKey']}"}
    with httpx.Client(
        base_url=running["url"], headers=headers, timeout=REQUEST_SECONDS, trust_env=False
    ) as client:
        for number in range(1, times + 1):
            fire_and_watch(client, console, known["triggerUrl"], number, wait_seconds)


def fire_and_watch(
    client: httpx.Client, console: Console, trigger_url: str, number: int, wait_seconds: float
) -> None:
    """One trigger, from the call to its end. Raises StartupError when that is not to be seen."""
    started = time.monotonic()
    answer = _ask(client, "POST", trigger_url, json={"order": number, "at": time.time()})
    took_ms = (time.monotonic() - started) * 1000
    console.print(f"POST {trigger_url} → [bold]{answer.status_code}[/] in {took_ms:.0f} ms")
    trigger_id = _told(answer, 202)["triggerId"]
    with Live(console=console, refresh_per_second=20) as live:
        trigger = _watch(client, live, trigger_id, started, started + wait_seconds)
    if trigger["status"] not in ENDED:
        raise StartupError(
            f"Trigger {trigger_id} is still {trigger['status']} after {wait_seconds:g} s.",
            hint="The worker's lines in the other terminal say what it waits for.",
        )


def _watch(
    client: httpx.Client, live: Live, trigger_id: str, started: float, deadline: float
) -> dict[str, Any]:
    while True:
        trigger = _told(_ask(client, "GET", f"/api/v1/triggers/{trigger_id}"), 200)
        live.update(table_of(trigger, time.monotonic() - started))
        if trigger["status"] in ENDED or time.monotonic() > deadline:
            return trigger
        time.sleep(POLL_SECONDS)


def _ask(client: httpx.Client, method: str, url: str, **what: Any) -> httpx.Response:
    try:
        return client.request(method, url, **what)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StartupError(
            f"The API does not answer ({type(error).__name__}).", hint="Is `make run` still running?"
        ) from None


def _told(answer: httpx.Response, wanted: int) -> dict[str, Any]:
    """The answer's JSON, if it has the wanted status; StartupError with what it says if not."""
    try:
        said: dict[str, Any] = answer.json()
    except ValueError:
        said = {"detail": "It is no JSON."}
    if answer.status_code != wanted or "detail" in said:
        raise StartupError(
            f"The API answered {answer.status_code}: {said.get('detail', answer.text)}",
            hint=said.get("hint", "The lines in the other terminal say why."),
        )
    return said


def table_of(trigger: dict[str, Any], seconds: float) -> Table:
    """A trigger's executions, each on one line of a terminal of 80 columns or more."""
    status = trigger["status"]
    title = Text.assemble(
        "trigger ", (trigger["id"], "cyan"), "  ", (status, STYLES[status]), f"  {seconds:.2f} s"
    )
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for column in ("step", "action", "type", "status", "attempt", "took", "result"):
        side: JustifyMethod = "right" if column in ("attempt", "took") else "left"
        table.add_column(column, justify=side, no_wrap=column not in MAY_BE_LONG)
    for execution in trigger["executions"]:
        table.add_row(*_cells(execution))
    return table


def _cells(execution: dict[str, Any]) -> tuple[str | Text, ...]:
    status = execution["status"]
    took = "" if execution["durationMs"] is None else f"{execution['durationMs']} ms"
    response = execution["response"] or {}
    result = execution["error"] or (f"HTTP {response['statusCode']}" if "statusCode" in response else "")
    return (
        str(execution["step"] + 1),
        _line(execution["actionName"] or ""),
        execution["type"],
        Text(f"{SIGNS[status]} {status}", STYLES[status]),
        str(execution["attempt"]),
        took,
        _line(result or (f"{response['storedBytes']} bytes stored" if "storedBytes" in response else "")),
    )


def _line(text: str) -> Text:
    """Any text on one line, cut where the room ends."""
    return Text(" ".join(text.split()), no_wrap=True, overflow="ellipsis")
