"""The `pointsman` command."""

from __future__ import annotations

import sys
from typing import Any

import click

from deploy.cli import admin, demo, keys, settings
from deploy.local.stack import run as run_stack
from migrations.migrate import upgrade
from shared import VERSION, config, logs
from shared.errors import PointsmanError

EX_CONFIG = 78


class _Commands(click.Group):
    """A group whose commands report our errors as a message and a hint, not as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PointsmanError as error:
            click.secho(f"{error.message}", fg="red", err=True)
            click.echo(error.hint, err=True)
            sys.exit(EX_CONFIG if error.code == "bad_configuration" else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """Pointsman: a self-hosted dispatcher for webhooks that loses nothing it accepted."""


@main.command()
def run() -> None:
    """Run everything on this machine: servers, API, workers. Ctrl-C stops it; the data is kept."""
    read = config.read()
    logs.configure("warning", read.log_format)
    sys.exit(run_stack(read))


@main.command()
def migrate() -> None:
    """Bring the database of POINTSMAN_DATABASE_URL up to date."""
    upgrade(config.read().postgres)
    click.echo("The database is up to date.")


main.add_command(admin.admin)
main.add_command(demo.demo)
main.add_command(keys.keys)
main.add_command(settings.settings)
