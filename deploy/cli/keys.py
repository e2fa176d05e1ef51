"""`pointsman keys`: encryption keys."""

from __future__ import annotations

import click

from shared.crypto import new_key


@click.group()
def keys() -> None:
    """Keys that encrypt secrets at rest."""


@keys.command()
def new() -> None:
    """Print a new key for POINTSMAN_SECRET_KEYS. To rotate, put it in front of the old ones."""
    click.echo(new_key())
