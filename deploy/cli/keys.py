"""`pointsman keys`: encryption keys, from the first one to the one that nothing needs any more.

docs/keys.md says in which order. Standard output has the keys and what needs them; how far a
rotation is goes to standard error: a bar in a terminal, lines elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table

from deploy.local.installation import database_url, own_keys, secret_keys
from shared import config, logs
from shared.config import Settings
from shared.crypto import SecretBox, key_id, new_key
from shared.errors import ConfigError
from shared.keyring import checks, rotation
from shared.keyring.survey import RoundProgress, Survey, Told
from shared.keyring.texts import UNNAMED
from shared.postgres.connections import connect
from shared.postgres.fitness import explained

# Without a terminal a column that takes long is spoken of so often.
LINE_SECONDS = 30.0

ADVICE = {
    "triggers.headers": "Give its key back and run this again, or let them be: they go with the calls that they came with."
}
"""What helps where nobody can set a secret again."""


@click.group()
def keys() -> None:
    """Keys that encrypt secrets at rest."""


@keys.command()
@click.option("--add", is_flag=True, help="Put it in front of the keys in the data folder of `make run`.")
def new(add: bool) -> None:
    """Print a new key, or add it to those that `make run` keeps."""
    made = new_key()
    if not add:
        click.echo(made)
        return
    settings = config.read()
    data = own_keys(settings)
    data.take("`pointsman keys new`")
    data.keep_secret_keys(f"{made},{secret_keys(settings)}")
    click.echo(f"Key {key_id(made)} was added. Start Pointsman, then run `pointsman keys rotate`.")


@keys.command()
def status() -> None:
    """Say which keys there are and how many sealed values need each."""
    url, box, _ = _installation()
    with _told() as told:
        found = rotation.survey(url, box, told)
    _show(found, box, _entered(url))


@keys.command()
def rotate() -> None:
    """Bring every sealed value under the newest key, beside the traffic.

    It can be cut off and run again. It ends with exit code 1 if something is not under it in
    the end.
    """
    url, box, settings = _installation()
    with _told() as told:
        found = rotation.rotate(url, box, settings.stale_seconds, told)
    click.echo(f"{found.renewed} rows came under key {box.newest}.")
    _show(found, box, _entered(url))
    if found.unreadable or found.left or not found.is_settled:
        sys.exit(1)


@keys.command()
@click.argument("key")
def drop(key: str) -> None:
    """Take KEY, by its id, out of those that `make run` keeps."""
    url, box, settings = _installation()
    data = own_keys(settings)
    if key not in box.key_ids:
        raise ConfigError(f"There is no key {key} here.", hint=f"There are {', '.join(box.key_ids)}.")
    with _told() as told:
        found = rotation.survey(url, box, told)
    if key in found.needed(box) or key in _entered(url):
        raise ConfigError(f"Key {key} is still needed.", hint="Run `pointsman keys rotate` first.")
    kept = [one for one in secret_keys(settings).split(",") if key_id(one.strip()) != key]
    data.keep_secret_keys(",".join(kept))
    click.echo(f"Key {key} is gone. Backups that were made before still need it.")


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(yes: bool) -> None:
    """Let Pointsman start without keys that are lost for good."""
    url, box, _ = _installation()
    with _told() as told:
        found = rotation.survey(url, box, told)
    entered = _entered(url)
    _show(found, box, entered)
    missing = [key for key in entered if key not in box.key_ids]
    if entered and not missing:
        click.echo("Every key that a start needs is here.")
        return
    if not yes:
        click.confirm("Start without what is missing, and leave what it sealed unreadable?", abort=True)
    with _cursor(url) as cursor:
        checks.leave(cursor, missing)
        checks.enter(cursor, [box.newest], box)
    click.echo("Pointsman starts with the keys that are here.")


def _installation() -> tuple[str, SecretBox, Settings]:
    """The database, the keys and the settings of the installation here."""
    settings = config.read()
    logs.configure("warning", settings.log_format)
    return database_url(settings), SecretBox(secret_keys(settings)), settings


@contextmanager
def _cursor(url: str) -> Iterator[Any]:
    with (
        explained(url),
        closing(connect(url, "keys", call_seconds=checks.CALL_SECONDS, autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _entered(url: str) -> list[str]:
    with _cursor(url) as cursor:
        return [key for key, _ in checks.entered(cursor)]


@contextmanager
def _told() -> Iterator[Told]:
    """What shows how far it is: a bar for each column, or a line behind it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines().moved
        return
    tasks: dict[tuple[int, str], TaskID] = {}
    with Bar(console=console) as bar:

        def moved(progress: RoundProgress) -> None:
            name = (progress.number, progress.column)
            if name not in tasks:
                tasks[name] = bar.add_task(f"round {progress.number}  {progress.column}")
            done = max(progress.read, 1)
            rows = done if progress.is_over else max(progress.rows, done)
            bar.update(tasks[name], completed=done, total=rows)

        yield moved


class _Lines:
    """A line when a column is through, and now and then before."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def moved(self, progress: RoundProgress) -> None:
        is_due = time.monotonic() - self._said_at > LINE_SECONDS
        if progress.is_over or is_due:
            self._said_at = time.monotonic()
            of = "" if progress.is_over else f" of about {progress.rows}"
            rows = f"{progress.read}{of} rows read, {progress.renewed} written"
            click.echo(f"round {progress.number}: {progress.column}: {rows}", err=True)


def _show(found: Survey, box: SecretBox, entered: list[str]) -> None:
    """The keys and what needs them; then what no key opens."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("key", "here", "sealed in", "values", "verdict"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "values" else "left")
    others = sorted({*entered, *found.missing(box)} - set(box.key_ids))
    for key in (*box.key_ids, *others):
        values = sorted(found.values_of(key, box).items()) or [("–", 0)]
        about = (_role(key, box), _verdict(key, values[0][1] > 0, box, entered))
        for number, (column, count) in enumerate(values):
            named, role, verdict = ("", "", "") if number else (key, *about)
            table.add_row(named, role, column, str(count), verdict)
    Console().print(table)
    if found.left:
        click.echo(f"{found.left} rows were held by somebody all the time. Run this again.")
    if not found.is_settled:
        click.echo(
            f"Values still come under another key than {box.newest}: some process has an older list of keys."
            " Give it this one, start it again, and run this again."
        )
    for (key, column), count in sorted(found.closed.items()):
        sealer = "that an earlier version wrote" if key == UNNAMED else f"that name key {key}"
        rows = ", ".join(found.rows[key, column])
        click.echo(
            f"{column}: no key here opens {count} values {sealer}. {_advice(key, column, box)} Rows: {rows}"
        )
    for column, count in sorted(found.lookalikes.items()):
        click.echo(
            f"{column}: {count} texts only look sealed. Somebody wrote them so, and no key is missing."
        )


def _advice(key: str, column: str, box: SecretBox) -> str:
    if column in ADVICE:
        return ADVICE[column]
    if key in box.key_ids:
        return "They are damaged: set these secrets again."
    return "Give its key back and run this again, or set these secrets again."


def _role(key: str, box: SecretBox) -> str:
    if key == box.newest:
        return "seals"
    return "opens" if key in box.key_ids else "missing"


def _verdict(key: str, has_values: bool, box: SecretBox, entered: list[str]) -> str:
    if key == box.newest:
        return "in use"
    if has_values:
        return "needed: rotate" if key in box.key_ids else "give it back"
    return "free after a rotation" if key in entered else "no longer needed"
