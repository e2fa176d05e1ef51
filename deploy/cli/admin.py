"""`pointsman admin`: what an operator does with the first account."""

from __future__ import annotations

import secrets

import click

from api.resources import sessions, users
from api.work import Workshop
from deploy.local.installation import database_url
from shared import config, logs
from shared.errors import NotFound
from shared.postgres.connections import open_database
from shared.postgres.fitness import explained


@click.group()
def admin() -> None:
    """Accounts, from the machine's own shell."""


@admin.command()
@click.argument("email", required=False)
@click.option("--password", help="The new password; generated and printed when it is not given.")
def password(email: str | None, password: str | None) -> None:
    """Set a new password for EMAIL (default: the first admin) and end its sessions."""
    chosen = password or secrets.token_urlsafe(15)
    settings = config.read()
    logs.configure("warning", settings.log_format)
    url = database_url(settings)
    database = open_database(url, "admin", pool_size=1)
    with explained(url), Workshop(database, settings).open() as work:
        user = users.find_by_email(work, email) if email else users.find_first_admin(work)
        if user is None:
            raise NotFound("There is no admin yet.", hint="Start Pointsman once: it makes the first one.")
        users.set_password(work, user.id, chosen)
        sessions.end_all(work, user.id)
    database.dispose()
    click.echo(f"{user.email}  {chosen}")
