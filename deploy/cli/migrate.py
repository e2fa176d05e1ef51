"""`pointsman migrate`: the database's schema."""

from __future__ import annotations

import click

from migrations.migrate import upgrade
from shared import config


@click.command()
def migrate() -> None:
    """Bring the database of POINTSMAN_DATABASE_URL up to date."""
    upgrade(config.read().postgres)
    click.echo("The database is up to date.")
