"""`pointsman migrate`: the database's schema."""

from __future__ import annotations

import click

from migrations.migrate import upgrade
from shared import config
from shared.startup import wait_for_postgres


@click.command()
def migrate() -> None:
    """Bring the database of POINTSMAN_DATABASE_URL up to date, its secrets sealed with
    POINTSMAN_SECRET_KEYS.
    """
    settings = config.read()
    keys = settings.secret_keys
    wait_for_postgres(settings.postgres, settings.start_wait_seconds, lambda text: click.echo(text, err=True))
    upgrade(settings.postgres, keys.get_secret_value() if keys else None)
    click.echo("The database is up to date.")
