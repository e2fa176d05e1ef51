"""The migrated schema: equal to the models, cut and stored as the hot path needs it, made by one at
a time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from migrations.migrate import current_and_head, upgrade
from shared.errors import ConfigError
from shared.models import (
    Action,
    ActionType,
    Base,
    Callback,
    OnFailure,
    Run,
    RunStatus,
    Trigger,
    User,
    UserRole,
)
from shared.models.base import SCHEMA_REVISION
from shared.postgres.connections import open_unbounded
from shared.postgres.partitions import TABLES, Partition
from tests.rows import REQUIRED

ROOT = Path(__file__).parents[3]
HOT_TABLES = ("triggers", "runs", "action_executions", "logs")
UPGRADE = "import sys; from migrations.migrate import upgrade; upgrade(sys.argv[1])"


def test_the_models_name_the_newest_migration(own_database_url: str) -> None:
    assert current_and_head(own_database_url) == (SCHEMA_REVISION, SCHEMA_REVISION)


def differences(database_url: str) -> list[Any]:
    """What a migration would have to change, partitions left out."""
    database = open_unbounded(database_url, "test")
    with database.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or Partition.named(name) is None,
            },
        )
        return list(compare_metadata(context, Base.metadata))


@pytest.fixture
def ask(database_url: str) -> Iterator[Callable[..., list[Any]]]:
    """Ask for the first column of all rows."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:

        def ask(query: str, *values: Any) -> list[Any]:
            cursor.execute(query, values)
            return [row[0] for row in cursor.fetchall()]

        yield ask


class TestEqualToTheModels:
    def test_nothing_is_left_to_migrate(self, database_url: str) -> None:
        assert differences(database_url) == []

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE users DROP COLUMN display_name",
            "ALTER TABLE users ADD COLUMN nickname text",
            "ALTER TABLE users ALTER COLUMN password DROP NOT NULL",
            "ALTER TABLE callbacks ALTER COLUMN timeout_duration SET DEFAULT 10000",
            "ALTER TABLE callbacks ALTER COLUMN trigger_token DROP DEFAULT",
            "ALTER TABLE logs ALTER COLUMN response_time TYPE text",
            "ALTER TABLE subscriptions DROP CONSTRAINT uq_subscriptions_user_id",
            "ALTER TABLE api_keys DROP CONSTRAINT fk_api_keys_user_id",
            "DROP INDEX uq_users_email",
            "DROP INDEX ix_logs_failures",
            "CREATE INDEX ix_runs_due_at ON runs (due_at)",
            "CREATE TABLE forgotten (id uuid)",
        ],
    )
    def test_a_difference_would_show(
        self, connect: Callable[..., Any], own_database_url: str, change: str
    ) -> None:
        connect().cursor().execute(change)
        assert differences(own_database_url) != []

    def test_these_are_all_tables(self) -> None:
        assert set(Base.metadata.tables) == set(REQUIRED)

    def test_each_table_has_a_file_of_its_own(self) -> None:
        for mapper in Base.registry.mappers:
            assert mapper.class_.__module__ == f"shared.models.{mapper.local_table.description}"

    def test_the_models_write_and_read(self, database_url: str) -> None:
        database = open_unbounded(database_url, "test")
        with Session(database) as session:
            user = User(email="a@example.com", password="hash")
            session.add(user)
            session.flush()
            callback = Callback(name="c", callback_url="http://x", user_id=user.id, delivery={"a": 1})
            session.add(callback)
            session.flush()
            action = Action(
                callback_id=callback.id, user_id=user.id, type=ActionType.SLACK, config={"text": "é"}, order=3
            )
            trigger = Trigger(
                callback_id=callback.id,
                user_id=user.id,
                method="POST",
                path="/t/x",
                headers={"a": ["b"]},
                body=b"\x00\xff",
                source_ip="2001:db8::1",
            )
            session.add_all([action, trigger])
            session.flush()
            session.expire_all()
            assert (user.id.version, user.role, user.is_active) == (7, UserRole.FREE, True)
            assert (callback.tags, callback.signing_secrets, callback.delivery) == ([], [], {"a": 1})
            assert (action.on_failure, action.retry, action.order) == (OnFailure.STOP, None, 3)
            assert (trigger.body, trigger.source_ip, trigger.query) == (b"\x00\xff", "2001:db8::1", "")
            assert session.scalar(text("SELECT retry IS NULL FROM actions")), "None is NULL, not JSON's null"
            run = Run(
                trigger_id=trigger.id, callback_id=callback.id, user_id=user.id, hint_at=trigger.received_at
            )
            session.add(run)
            session.flush()
            assert session.scalars(select(Run.status)).all() == [RunStatus.PENDING]

    def test_a_change_through_the_models_moves_updated_at(self, database_url: str) -> None:
        database = open_unbounded(database_url, "test")
        with Session(database) as session:
            user = User(email="b@example.com", password="hash", updated_at=text("now() - interval '1 day'"))
            session.add(user)
            session.flush()
            made = user.updated_at
            user.display_name = "B"
            session.flush()
            assert user.updated_at > made


class TestHotTables:
    @pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
    def test_each_is_cut_as_its_catalogue_says(self, ask: Callable[..., list[Any]], table: Any) -> None:
        assert ask("SELECT pg_get_partkeydef(%s::regclass)", table.name) == [f"RANGE ({table.key})"]
        model = Base.metadata.tables[table.name].dialect_options["postgresql"]
        assert model["partition_by"] == f"RANGE ({table.key})"

    def test_no_other_is_cut(self, ask: Callable[..., list[Any]]) -> None:
        cut = ask("SELECT partrelid::regclass::text FROM pg_partitioned_table")
        assert set(cut) == {table.name for table in TABLES}

    def test_none_has_a_default_partition(self, ask: Callable[..., list[Any]]) -> None:
        assert set(ask("SELECT partdefid FROM pg_partitioned_table")) == {0}

    @pytest.mark.parametrize("table", HOT_TABLES)
    def test_none_has_foreign_keys_to_it_or_from_it(self, ask: Callable[..., list[Any]], table: str) -> None:
        query = (
            "SELECT conname FROM pg_constraint WHERE contype = 'f' AND %s::regclass IN (conrelid, confrelid)"
        )
        assert ask(query, table) == []

    @pytest.mark.parametrize(
        ("table", "indexed"),
        [
            ("triggers", {"(id)", "(callback_id, id)", "(user_id, id)"}),
            ("runs", {"(trigger_id)", "(hint_at)"}),
            (
                "logs",
                {
                    "(id)",
                    *("(callback_id, id)", "(callback_id, id) WHERE (NOT success)"),
                    *("(user_id, id)", "(user_id, id) WHERE (NOT success)"),
                },
            ),
            ("action_executions", {"(trigger_id, id)", "(trigger_id, action_id)", "(action_id, id)"}),
        ],
    )
    def test_each_has_these_indexes_and_no_more(
        self, ask: Callable[..., list[Any]], table: str, indexed: set[str]
    ) -> None:
        query = "SELECT split_part(indexdef, 'USING btree ', 2) FROM pg_indexes WHERE tablename = %s"
        assert set(ask(query, table)) == indexed
        assert len(ask(query, table)) == len(indexed)

    def test_runs_has_room_on_its_pages_and_is_vacuumed_eagerly(self, ask: Callable[..., list[Any]]) -> None:
        assert set(ask("SELECT unnest(reloptions) FROM pg_class WHERE relname = 'runs'")) == {
            "fillfactor=45",
            "autovacuum_vacuum_scale_factor=0",
            "autovacuum_vacuum_threshold=2000",
            "autovacuum_vacuum_cost_delay=0",
        }

    def test_a_change_of_status_stays_on_the_page(
        self, connect: Callable[..., Any], own_database_url: str
    ) -> None:
        cursor = connect().cursor()
        cursor.execute(
            "INSERT INTO runs (trigger_id, callback_id, user_id, hint_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() FROM generate_series(1, 1000)"
        )
        cursor.execute("UPDATE runs SET status = 'RUNNING', worker_id = gen_random_uuid(), claim = claim + 1")
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'runs'")
        in_place, all_updates = cursor.fetchone()
        assert all_updates == 1000
        assert in_place >= 950


class TestUpgrade:
    def test_an_empty_database_becomes_the_newest(self, empty_database_url: str) -> None:
        assert current_and_head(empty_database_url)[0] is None
        upgrade(empty_database_url)
        current, head = current_and_head(empty_database_url)
        assert current == head is not None
        assert differences(empty_database_url) == []

    def test_a_second_one_changes_nothing(self, own_database_url: str, connect: Callable[..., Any]) -> None:
        cursor = connect().cursor()
        before = _everything(cursor)
        upgrade(own_database_url)
        assert _everything(cursor) == before

    def test_partitions_that_went_missing_come_back(
        self, own_database_url: str, connect: Callable[..., Any]
    ) -> None:
        cursor = connect().cursor()
        cursor.execute("SELECT 'triggers_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
        (today,) = cursor.fetchone()
        cursor.execute(f"DROP TABLE {today}")
        upgrade(own_database_url)
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (today,))
        assert cursor.fetchone() == (True,)

    def test_two_processes_at_once_migrate_one_after_the_other(self, empty_database_url: str) -> None:
        with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT pg_advisory_lock(hashtextextended('pointsman.migrate', 0))")
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", UPGRADE, empty_database_url], cwd=ROOT, stderr=subprocess.PIPE
                )
                for _ in range(2)
            ]
            try:
                _wait_until(lambda: _others(cursor) == 2)
                assert _everything(cursor) == set(), "nobody touches the schema without the lock"
                cursor.execute("SELECT pg_advisory_unlock_all()")
                results = [(process.communicate(timeout=60), process.returncode) for process in processes]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
        assert [code for _, code in results] == [0, 0], results
        current, head = current_and_head(empty_database_url)
        assert current == head
        assert differences(empty_database_url) == []

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
    def test_every_name_of_postgresql_will_do(self, database_url: str, scheme: str) -> None:
        current, head = current_and_head(f"{scheme}://{database_url.partition('://')[2]}")
        assert current == head

    def test_another_database_is_refused_without_showing_its_password(self) -> None:
        with pytest.raises(ConfigError) as refused:
            upgrade("mysql://me:pa55word@localhost/pointsman")
        assert "pa55word" not in refused.value.message + refused.value.hint


def _everything(cursor: Any) -> set[tuple[int, str]]:
    """Every table, index and type in the database, by its number."""
    cursor.execute(
        "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT oid, typname FROM pg_type WHERE typnamespace = 'public'::regnamespace"
    )
    return set(cursor.fetchall())


def _others(cursor: Any) -> int:
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    count: int = cursor.fetchone()[0]
    return count


def _wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "this never came to be"
        time.sleep(0.02)


def test_a_database_of_a_newer_version_is_told(own_database_url: str) -> None:
    """Fails with a traceback of Alembic's, when a release is rolled back."""
    with closing(psycopg2.connect(own_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match=f"9999.*{SCHEMA_REVISION}") as error:
        upgrade(own_database_url)
    assert "newer" in error.value.hint


def test_a_database_of_somebody_elses_alembic_is_told(empty_database_url: str) -> None:
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE TABLE alembic_version (version_num varchar(32)); ")
        cursor.execute("INSERT INTO alembic_version VALUES ('0001'), ('0002')")
    with pytest.raises(ConfigError, match="0001, 0002"):
        upgrade(empty_database_url)
