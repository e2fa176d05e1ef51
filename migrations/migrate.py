"""Brings a database to the present schema.

Invariant: after upgrade() the schema is the newest and the partitions of today and the days ahead
exist. It can be repeated and run by several processes at once: one migrates, the others wait.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from shared.errors import ConfigError, Unavailable
from shared.keyring import checks
from shared.postgres.connections import connect, open_unbounded
from shared.postgres.fitness import explained
from shared.postgres.partitions import ensure_partitions, missing_partitions

# So long may somebody hold a lock on callbacks or users.
PARTITION_WAIT_SECONDS = 30.0


def upgrade(database_url: str, secret_keys: str | None = None) -> None:
    """Run the migrations that are missing, then make the partitions that are.

    secret_keys: as in POINTSMAN_SECRET_KEYS. ConfigError if they do not fit the database, if rows
    are to be sealed without them, or if a newer version has migrated the database. Unavailable if
    another process migrates for minutes, or if a partition cannot be attached. ServerRefuses if the
    role lacks a right.
    """
    with explained(database_url):
        _refuse_unknown(database_url)
        if secret_keys is not None:  # before a migration seals anything with them
            checks.refuse_misfit(database_url, secret_keys)
        command.upgrade(_config(database_url, secret_keys), "head")
        _make_partitions(database_url)
        if secret_keys is not None:
            checks.examine(database_url, secret_keys)


def _refuse_unknown(database_url: str) -> None:
    """Raise ConfigError for a database that a newer version has migrated, or another program."""
    scripts = ScriptDirectory.from_config(_config(database_url))
    known = {script.revision for script in scripts.walk_revisions()}
    with open_unbounded(database_url, "migrate").connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
    if len(heads) > 1 or not known.issuperset(heads):
        raise ConfigError(
            f"The database is at revision {', '.join(sorted(heads))}."
            f" This Pointsman knows revisions up to {scripts.get_current_head()}.",
            hint="Run the newer version that migrated it, or use a database of its own.",
        )


def current_and_head(database_url: str) -> tuple[str | None, str | None]:
    """Give the revision that a database has (None: never migrated) and the newest there is."""
    head = ScriptDirectory.from_config(_config(database_url)).get_current_head()
    with open_unbounded(database_url, "migrate").connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), head


def _make_partitions(database_url: str) -> None:
    give_up = time.monotonic() + PARTITION_WAIT_SECONDS
    with closing(connect(database_url, "partitions", call_seconds=math.inf)) as connection:
        while True:
            with closing(connection.cursor()) as cursor:
                ensure_partitions(cursor)
                missing = missing_partitions(cursor)
            connection.commit()
            if not missing:
                return
            if time.monotonic() > give_up:
                raise Unavailable(
                    f"No lock for attaching {', '.join(missing)}.",
                    hint="Look in pg_stat_activity for a transaction that stays open on callbacks or users.",
                )


def _config(database_url: str, secret_keys: str | None = None) -> Config:
    config = Config()
    # a path with a percent sign must not be read as an interpolation
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    config.attributes["secret_keys"] = secret_keys
    return config
