"""A migration that bounds its locks leaves its session as it was: without bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from alembic import command
from sqlalchemy import Engine, event

from migrations.migrate import _config
from shared.crypto import new_key
from tests.rows import Rows

ROLES_OWN = "77s"  # in PostgreSQL's own spelling


@contextmanager
def bounds_behind_each_migration() -> Iterator[list[tuple[str, str]]]:
    """lock_timeout and statement_timeout where Alembic notes that a migration is done."""
    seen: list[tuple[str, str]] = []

    def look(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT INTO alembic_version", "UPDATE alembic_version")):
            cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
            seen.append(cursor.fetchone())

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", look)


def test_no_bound_of_the_roles_comes_back_behind_a_migration(empty_database_url: str) -> None:
    """Fails with RESET: what it brings back is the database's or the role's, not the session's."""
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        name = empty_database_url.rpartition("/")[2]
        for setting in ("lock_timeout", "statement_timeout"):
            cursor.execute(f"ALTER DATABASE {name} SET {setting} = '{ROLES_OWN}'")
        command.upgrade(_config(empty_database_url), "0007")
        Rows(cursor).insert("callbacks", callback_url="https://x.example/to/be?sealed=1")
        with bounds_behind_each_migration() as seen:
            command.upgrade(_config(empty_database_url, new_key()), "head")
    assert len(seen) >= 3
    assert ROLES_OWN not in {bound for bounds in seen for bound in bounds}
    assert seen.count(("0", "0")) >= 2, "the check sees migrations outside of a transaction"
