"""`pointsman run`: everything on this machine."""

from __future__ import annotations

import sys

import click

from deploy.local import stack
from shared import config, logs


@click.command()
def run() -> None:
    """Run everything on this machine: servers, API, workers. Ctrl-C stops it; the data is kept."""
    settings = config.read()
    logs.configure("warning", settings.log_format)
    sys.exit(stack.run(settings))
