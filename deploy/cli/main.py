"""The `pointsman` command."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from shared import VERSION
from shared.errors import ConfigError, PointsmanError
from shared.process import EX_CONFIG

COMMANDS = {
    "admin": "deploy.cli.admin",
    "demo": "deploy.cli.demo",
    "keys": "deploy.cli.keys",
    "migrate": "deploy.cli.migrate",
    "run": "deploy.cli.run",
    "settings": "deploy.cli.settings",
}
"""Each command is a function of the same name in its module, which is imported only when it is
asked for.
"""


class Commands(click.Group):
    """A group that loads its commands lazily and reports our errors as a message and a hint."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PointsmanError as error:
            click.secho(error.message, fg="red", err=True)
            click.echo(error.hint, err=True)
            sys.exit(EX_CONFIG if isinstance(error, ConfigError) else 1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """Pointsman: a self-hosted dispatcher for webhooks that loses nothing it accepted."""
