"""The migration that builds the lists' indexes on tables that are in use: it can be cut off and
repeated.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg2
from alembic import command

from migrations.migrate import _config, upgrade
from shared.postgres import connections
from shared.postgres.partitions import ensure_partitions

INDEXES = (
    "ix_triggers_user_id_id",
    "ix_logs_user_id_id",
    "ix_logs_failures_of_user",
    "ix_stored_items_user_id_id",
)


def ask(cursor: Any, question: str, *parameters: Any) -> list[Any]:
    cursor.execute(question, parameters)
    return [row[0] for row in cursor.fetchall()]


def test_a_build_that_was_cut_off_is_done_again(empty_database_url: str) -> None:
    """Fails when an invalid index of an interrupted build is taken for a good one, or stops the
    next try.
    """
    command.upgrade(_config(empty_database_url), "0007")
    with closing(connections.connect(empty_database_url, "test", call_seconds=60)) as connection:
        with connection.cursor() as cursor:
            ensure_partitions(cursor)
        connection.commit()
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        partition, *_ = ask(
            cursor, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'triggers'::regclass"
        )
        left_behind = f"ix_{partition}_user_id_id"
        cursor.execute(f"CREATE INDEX {left_behind} ON {partition} (user_id, id)")
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (left_behind,)
        )

        upgrade(empty_database_url)

        for index in INDEXES:
            assert ask(cursor, "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", index) == [
                True
            ], index
        assert ask(cursor, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid") == []
        # each partition has one index of each kind, not a second that was built under another name
        counts = ask(
            cursor,
            "SELECT count(*) FROM pg_inherits i JOIN pg_indexes x ON x.tablename = i.inhrelid::regclass::text"
            " WHERE i.inhparent = 'triggers'::regclass AND x.indexdef LIKE '%%(user_id, id)' GROUP BY i.inhrelid",
        )
        assert set(counts) == {1}
        assert ask(cursor, "SELECT to_regclass('ix_stored_items_user_id')") == [None]


def test_what_was_built_is_not_built_again(empty_database_url: str) -> None:
    """Fails when a try that follows one that got far gives the partitions made in between a second,
    equal index.
    """
    upgrade(empty_database_url)
    with closing(connections.connect(empty_database_url, "test", call_seconds=60)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '0007'")
            cursor.execute("DROP TABLE kept_answers, retired_tokens")
            ensure_partitions(cursor, days_ahead=9)
        connection.commit()

        upgrade(empty_database_url)

        with connection.cursor() as cursor:
            doubled = ask(
                cursor,
                "SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%%(user_id, id)' GROUP BY tablename HAVING count(*) > 1",
            )
            assert doubled == []
