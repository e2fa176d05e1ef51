"""What Alembic runs: one migration after the other, each in a transaction of its own.

Invariant: one process migrates a database at a time; others wait and then find nothing to do.

The URL comes from `migrations.migrate` (a config attribute) or from `alembic -x database_url=…`.
There is no offline mode: a script that nobody has run is no migration.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from shared.errors import ConfigError, Unavailable
from shared.models import Base
from shared.postgres.connections import open_unbounded
from shared.postgres.partitions import Partition

# So long may a migration of another process take; beyond it somebody should look.
LOCK_WAIT_SECONDS = 300.0
POLL_SECONDS = 0.1

_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('pointsman.migrate', 0))")
_UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended('pointsman.migrate', 0))")


def migrate() -> None:
    """Run what Alembic was asked for, alone."""
    with open_unbounded(_url(), "migrate").connect() as connection, _alone(connection):
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_server_default=True,
            include_name=is_ours,
        )
        with context.begin_transaction():
            context.run_migrations()


def is_ours(name: str | None, type_: str, _parents: Any) -> bool:
    """Leave partitions out of comparisons: no migration makes them, `partitions.py` does."""
    return type_ != "table" or name is None or Partition.named(name) is None


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the migration lock, on this session.

    It is asked for again and again: a session that waits inside pg_advisory_lock() would hold a
    snapshot, and a CREATE INDEX CONCURRENTLY of the one that migrates would wait for that for ever.
    """
    give_up = time.monotonic() + LOCK_WAIT_SECONDS
    while not _ask(connection, _TRY_LOCK):
        if time.monotonic() > give_up:
            raise Unavailable(
                f"Another process has been migrating this database for {LOCK_WAIT_SECONDS:.0f} s.",
                hint="Look in pg_stat_activity for what it waits for.",
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        connection.rollback()
        _ask(connection, _UNLOCK)


def _ask(connection: Connection, question: Any) -> bool:
    answer = bool(connection.scalar(question))
    connection.commit()
    return answer


def _url() -> str:
    given = context.config.attributes.get("database_url") or context.get_x_argument(as_dictionary=True).get(
        "database_url"
    )
    if not given:
        raise ConfigError(
            "Alembic was not told which database to migrate.", hint="Add -x database_url=postgresql://…"
        )
    return str(given)


if context.is_offline_mode():
    raise ConfigError(
        "Migrations run against a database only.", hint="Leave --sql away, or use a copy of the database."
    )
migrate()
