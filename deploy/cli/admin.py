"""`pointsman admin`: what an operator does with the first account."""

from __future__ import annotations

import secrets

import click
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from api.auth.passwords import hash_password
from deploy.local.state import DataFolder
from shared import config
from shared.db import make_engine
from shared.errors import NotFound, StartupError
from shared.models import User, UserSession


@click.group()
def admin() -> None:
    """Accounts, from the machine's own shell."""


@admin.command()
@click.argument("email", required=False)
@click.option("--password", help="The new password; generated and printed when it is not given.")
def password(email: str | None, password: str | None) -> None:
    """Set a new password for EMAIL (default: the first admin) and end its sessions."""
    chosen = password or secrets.token_urlsafe(15)
    engine = make_engine(_database_url(), "admin", pool_size=1)
    with Session(engine) as session, session.begin():
        wanted = func.lower(User.email) == email.lower() if email else User.role == "ADMIN"
        user = session.scalar(
            select(User).where(wanted, User.deleted_at.is_(None)).order_by(User.id).limit(1)
        )
        if user is None:
            raise NotFound("There is no such account.", hint="Give the e-mail of an existing account.")
        user.password = hash_password(chosen)
        session.execute(delete(UserSession).where(UserSession.user_id == user.id))
        click.echo(f"{user.email}  {chosen}")
    engine.dispose()


def _database_url() -> str:
    """The configured database, or the embedded one of a running Pointsman."""
    settings = config.read()
    if settings.database_url is not None:
        return settings.postgres
    url = DataFolder(settings.data_dir).read("run.json").get("databaseUrl")
    if url is None:
        raise StartupError(
            "No running Pointsman is known here.",
            hint="Start it with `make run`, or set POINTSMAN_DATABASE_URL.",
        )
    return str(url)
