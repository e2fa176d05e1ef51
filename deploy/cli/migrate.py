"""`pointsman migrate`: the database's schema."""

from __future__ import annotations

import click

from migrations.migrate import upgrade
from shared import config


@click.command()
def migrate() -> None:
    """Bring the database of POINTSMAN_DATABASE_URL up to date, its secrets sealed with
    POINTSMAN_SECRET_KEYS.
    """
    settings = config.read()
    keys = settings.secret_keys
    upgrade(settings.postgres, keys.get_secret_value() if keys else None)
    click.echo("The database is up to date.")
