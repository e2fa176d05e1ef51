"""Partitions: made before they are needed, by however many; dropped when nobody needs them,
blocking nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from shared.ids import day_bounds, execution_id, new_id, trigger_range
from shared.postgres.partitions import (
    LOCK_TIMEOUT_MS,
    TABLES,
    Partition,
    PartitionedTable,
    drop_partition,
    droppable_partitions,
    ensure_partitions,
    missing_partitions,
)

DAILY = ("triggers", "action_executions", "logs")
Connect = Callable[..., Any]


@pytest.fixture
def cursor(connect: Connect) -> Any:
    """A cursor of the test's own database, in autocommit."""
    return connect().cursor()


@pytest.fixture
def today(cursor: Any) -> date:
    cursor.execute("SELECT (now() AT TIME ZONE 'UTC')::date")
    day: date = cursor.fetchone()[0]
    return day


def ensure(connect: Connect, **window: int) -> list[str]:
    with connect(autocommit=False) as connection:
        return ensure_partitions(connection.cursor(), **window)


def name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def insert_run(cursor: Any, trigger_id: Any) -> None:
    cursor.execute(
        "INSERT INTO runs (trigger_id, callback_id, user_id, hint_at) VALUES (%s, %s, %s, now())",
        (trigger_id, new_id(), new_id()),
    )


def insert_trigger(cursor: Any, trigger_id: Any) -> None:
    cursor.execute(
        "INSERT INTO triggers (id, callback_id, user_id, method, path, headers, body)"
        " VALUES (%s, %s, %s, 'POST', '/', '{}', '')",
        (trigger_id, new_id(), new_id()),
    )


def exists(cursor: Any, partition: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (partition,))
    return bool(cursor.fetchone()[0])


def key_of(day: date) -> Any:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return new_id(int(noon.timestamp() * 1000))


class TestMadeAhead:
    def test_a_migrated_database_has_yesterday_to_a_week_ahead(self, cursor: Any, today: date) -> None:
        assert missing_partitions(cursor) == []
        for table in DAILY:
            for days in range(-1, 8):
                assert exists(cursor, name(table, today + timedelta(days=days)))

    def test_those_that_are_missing_are_made_and_named(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        expected = {name(table, today + timedelta(days=days)) for table in DAILY for days in (8, 9)}
        months = set(missing_partitions(cursor, days_ahead=9)) - expected
        assert set(ensure(connect, days_ahead=9)) == expected | months
        assert missing_partitions(cursor, days_ahead=9) == []

    def test_a_second_time_there_is_nothing_to_make(self, connect: Connect) -> None:
        ensure(connect, days_ahead=9)
        assert ensure(connect, days_ahead=9) == []

    def test_the_row_of_a_months_window_finds_its_partition(self, cursor: Any) -> None:
        """A window may have begun a month ago; and the next month begins within the week, or
        not.
        """
        cursor.execute(
            "INSERT INTO users (id, email, password) VALUES (%s, 'a', 'b') RETURNING id", (new_id(),)
        )
        (user,) = cursor.fetchone()
        cursor.execute(
            "INSERT INTO callbacks (id, name, callback_url, user_id) VALUES (%s, 'a', 'b', %s) RETURNING id",
            (new_id(), user),
        )
        (callback,) = cursor.fetchone()
        for start in (
            "now() - interval '31 days'",
            "date_trunc('month', now(), 'UTC')",
            "now() + interval '7 days'",
        ):
            cursor.execute(
                "INSERT INTO rate_limit_logs (id, callback_id, user_id, period, period_start)"
                f" VALUES (%s, %s, %s, 'month', {start})",
                (new_id(), callback, user),
            )
        cursor.execute("SELECT count(*) FROM rate_limit_logs")
        assert cursor.fetchone() == (3,)

    @pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
    def test_days_are_those_of_utc_whatever_the_sessions_zone(
        self, connect: Connect, cursor: Any, zone: str
    ) -> None:
        cursor.execute("SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition")
        before = set(cursor.fetchall())
        with connect(autocommit=False) as connection:
            far = connection.cursor()
            far.execute("SET LOCAL timezone = %s", (zone,))
            assert missing_partitions(far) == []
            made = ensure_partitions(far, days_ahead=40)
        assert made
        assert missing_partitions(cursor, days_ahead=40) == []
        cursor.execute("SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition")
        assert before < set(cursor.fetchall()), "those that were there are as they were"

    def test_each_has_the_parents_indexes_and_its_own_storage(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        ensure(connect, days_ahead=8)
        new_day = today + timedelta(days=8)
        for table in DAILY:
            cursor.execute(
                "SELECT (SELECT array_agg(split_part(indexdef, ' USING ', 2) ORDER BY 1) FROM pg_indexes"
                " WHERE tablename = t.name) FROM unnest(%s) AS t (name)",
                ([table, name(table, new_day)],),
            )
            (of_parent,), (of_partition,) = cursor.fetchall()
            assert sorted(of_parent) == sorted(of_partition)
        cursor.execute(
            "SELECT relname, reloptions FROM pg_class WHERE relispartition AND relkind = 'r'"
            " AND reloptions IS NOT NULL AND relname NOT LIKE 'action_executions_%'"
        )
        assert cursor.fetchall() == []
        cursor.execute(
            "SELECT DISTINCT reloptions FROM pg_class WHERE relispartition AND relkind = 'r'"
            " AND relname LIKE 'action_executions_%'"
        )
        assert cursor.fetchall() == [(["fillfactor=35"],)]

    def test_every_index_of_the_parents_is_whole(self, connect: Connect, cursor: Any) -> None:
        ensure(connect, days_ahead=8)
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        assert cursor.fetchall() == []

    def test_nothing_is_made_before_the_commit(self, connect: Connect, cursor: Any) -> None:
        connection = connect(autocommit=False)
        assert ensure_partitions(connection.cursor(), days_ahead=8)
        connection.rollback()
        assert missing_partitions(cursor, days_ahead=8)

    def test_autocommit_is_refused(self, cursor: Any) -> None:
        with pytest.raises(ValueError, match="transaction"):
            ensure_partitions(cursor)

    def test_one_that_was_made_and_not_attached_is_attached(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        left_over = name("triggers", today + timedelta(days=3))
        cursor.execute(f"ALTER TABLE triggers DETACH PARTITION {left_over}")
        assert missing_partitions(cursor) == [left_over]
        assert ensure(connect) == [left_over]
        insert_trigger(cursor, key_of(today + timedelta(days=3)))


class TestConcurrently:
    def test_many_at_once_make_each_one_once(self, connect: Connect, cursor: Any) -> None:
        expected = sorted(missing_partitions(cursor, days_ahead=14))
        together = threading.Barrier(6)

        def make(_number: int) -> list[str]:
            with connect(autocommit=False) as connection:
                together.wait()
                return ensure_partitions(connection.cursor(), days_ahead=14)

        with ThreadPoolExecutor(6) as pool:
            made = [partition for names in pool.map(make, range(6)) for partition in names]
        assert sorted(made) == expected
        assert missing_partitions(cursor, days_ahead=14) == []

    def test_triggers_are_accepted_meanwhile(self, connect: Connect, cursor: Any) -> None:
        accepting = connect(autocommit=False)
        insert_trigger(accepting.cursor(), new_id())
        assert ensure(connect, days_ahead=8), "it does not wait for those that write"
        making = connect(autocommit=False)
        ensure_partitions(making.cursor(), days_ahead=9)
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        insert_trigger(cursor, new_id())
        making.rollback()
        accepting.rollback()

    def test_a_lock_that_is_not_free_costs_one_partition_and_little_time(
        self, connect: Connect, cursor: Any
    ) -> None:
        changing = connect(autocommit=False)
        changing.cursor().execute("UPDATE users SET is_active = false")
        wanted = missing_partitions(cursor, days_ahead=40)
        began = time.monotonic()
        made = ensure(connect, days_ahead=40)
        assert time.monotonic() - began < 5
        left = missing_partitions(cursor, days_ahead=40)
        assert sorted(made + left) == sorted(wanted)
        assert left
        assert all(partition.startswith("rate_limit_logs_") for partition in left)
        changing.rollback()
        assert ensure(connect, days_ahead=40) == left


class TestKeys:
    @pytest.mark.parametrize("days", [-40, 40])
    def test_one_outside_all_partitions_is_refused(self, cursor: Any, today: date, days: int) -> None:
        with pytest.raises(errors.CheckViolation, match="no partition"):
            insert_trigger(cursor, key_of(today + timedelta(days=days)))

    def test_the_first_and_last_of_a_day_go_into_it(self, cursor: Any, today: date) -> None:
        lowest, beyond = day_bounds(today)
        last_ms = (beyond.int >> 80) - 1
        for key in (new_id(lowest.int >> 80), new_id(last_ms)):
            insert_trigger(cursor, key)
        insert_trigger(cursor, new_id(last_ms + 1))
        cursor.execute("SELECT tableoid::regclass::text, count(*) FROM triggers GROUP BY 1 ORDER BY 1")
        assert cursor.fetchall() == [
            (name("triggers", today), 2),
            (name("triggers", today + timedelta(days=1)), 1),
        ]

    def test_looking_up_an_execution_by_its_id_reads_one_partition(self, cursor: Any) -> None:
        execution = execution_id(new_id(), 7)
        lowest, highest = trigger_range(execution)
        cursor.execute(
            "EXPLAIN SELECT * FROM action_executions WHERE trigger_id BETWEEN %s AND %s AND id = %s",
            (lowest, highest, execution),
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
        assert plan.count(" on action_executions_") == 1, plan

    @pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
    def test_a_name_leads_back_to_its_partition(self, table: PartitionedTable) -> None:
        for day in (date(2026, 11, 22), date(2027, 1, 31), date(2028, 2, 29), date(2026, 12, 31)):
            partition = Partition.covering(table, day)
            assert Partition.named(partition.name) == partition
            assert partition.start <= day < partition.end
            assert Partition.covering(table, partition.end).start == partition.end

    @pytest.mark.parametrize(
        "other", ["triggers", "triggers_2026", "triggers_202611223", "runs_20261122", "triggers_20261122_id"]
    )
    def test_no_other_name_does(self, other: str) -> None:
        assert Partition.named(other) is None


class TestDrop:
    @pytest.fixture(autouse=True)
    def _old_partitions(self, connect: Connect) -> None:
        ensure(connect, days_back=5)

    def test_those_past_the_days_to_keep_can_go_oldest_first(self, cursor: Any, today: date) -> None:
        droppable = droppable_partitions(cursor, keep_days=3)
        assert [each for each in droppable if each.startswith("triggers_")] == [
            name("triggers", today - timedelta(days=5)),
            name("triggers", today - timedelta(days=4)),
        ]
        assert {each[:-9] for each in droppable} == set(DAILY)

    def test_what_is_made_ahead_cannot_go(self, connect: Connect, cursor: Any) -> None:
        """Otherwise one duty would make what the other drops."""
        for partition in droppable_partitions(cursor, keep_days=0):
            assert drop_partition(connect(), partition) == "dropped"
        assert missing_partitions(cursor) == []

    def test_a_day_is_kept_whole(self, cursor: Any, today: date) -> None:
        """Its last trigger came just before midnight and has all its days from then on."""
        assert name("triggers", today - timedelta(days=1)) not in droppable_partitions(cursor, keep_days=1)
        assert name("triggers", today - timedelta(days=2)) in droppable_partitions(cursor, keep_days=1)

    def test_a_month_can_go_when_its_last_day_can(self, connect: Connect, cursor: Any, today: date) -> None:
        ensure(connect, days_back=100)
        months = [each for each in droppable_partitions(cursor, keep_days=45) if "rate_limit" in each]
        assert months
        for each in months:
            partition = Partition.named(each)
            assert partition is not None
            assert partition.end <= today - timedelta(days=45)

    def test_one_is_gone_with_its_rows(self, connect: Connect, cursor: Any, today: date) -> None:
        old = today - timedelta(days=5)
        insert_trigger(cursor, key_of(old))
        insert_trigger(cursor, key_of(today))
        assert drop_partition(connect(), name("triggers", old)) == "dropped"
        assert not exists(cursor, name("triggers", old))
        cursor.execute("SELECT count(*) FROM triggers")
        assert cursor.fetchone() == (1,)

    def test_dropping_again_is_no_error(self, connect: Connect, today: date) -> None:
        old = name("logs", today - timedelta(days=5))
        assert drop_partition(connect(), old) == "dropped"
        assert drop_partition(connect(), old) == "dropped"

    @pytest.mark.parametrize("table", DAILY)
    def test_one_with_an_unsettled_run_stays(
        self, connect: Connect, cursor: Any, today: date, table: str
    ) -> None:
        old = today - timedelta(days=5)
        insert_run(cursor, key_of(old))
        assert name(table, old) not in droppable_partitions(cursor, keep_days=0)
        assert drop_partition(connect(), name(table, old)) == "unsettled"
        assert exists(cursor, name(table, old))
        cursor.execute("DELETE FROM runs")
        assert name(table, old) in droppable_partitions(cursor, keep_days=0)
        assert drop_partition(connect(), name(table, old)) == "dropped"

    def test_runs_of_the_days_beside_it_do_not_matter(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        lowest, beyond = day_bounds(today - timedelta(days=4))
        insert_run(cursor, new_id((lowest.int >> 80) - 1))
        insert_run(cursor, new_id(beyond.int >> 80))
        assert drop_partition(connect(), name("triggers", today - timedelta(days=4))) == "dropped"

    def test_a_reader_is_not_waited_for_and_holds_nobody_up(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        old = name("triggers", today - timedelta(days=5))
        reading = connect(autocommit=False)
        reader = reading.cursor()
        reader.execute("SELECT count(*) FROM triggers")
        began = time.monotonic()
        assert drop_partition(connect(), old) == "busy"
        assert time.monotonic() - began < 2
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        insert_trigger(cursor, new_id())
        reader.execute("SELECT count(*) FROM triggers")
        assert drop_partition(connect(), old) == "busy"
        reading.rollback()
        assert old in droppable_partitions(cursor, keep_days=3), "half detached, it is still found"
        assert drop_partition(connect(), old) == "dropped"
        assert not exists(cursor, old)

    def test_triggers_are_accepted_while_a_drop_waits(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        reading = connect(autocommit=False)
        reading.cursor().execute("SELECT count(*) FROM triggers")
        slowest = 0.0
        with ThreadPoolExecutor(1) as pool:
            dropping = pool.submit(drop_partition, connect(), name("triggers", today - timedelta(days=5)))
            while not dropping.done():
                began = time.monotonic()
                insert_trigger(cursor, new_id())
                slowest = max(slowest, time.monotonic() - began)
            assert dropping.result() == "busy"
        assert slowest < LOCK_TIMEOUT_MS / 1000

    def test_behind_a_half_detached_sibling_it_is_busy(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        older, newer = (name("triggers", today - timedelta(days=days)) for days in (5, 4))
        reading = connect(autocommit=False)
        reading.cursor().execute("SELECT count(*) FROM triggers")
        assert drop_partition(connect(), older) == "busy"
        reading.rollback()
        assert drop_partition(connect(), newer) == "busy"
        assert [drop_partition(connect(), each) for each in (older, newer)] == ["dropped", "dropped"]

    def test_one_that_was_detached_and_not_dropped_goes(
        self, connect: Connect, cursor: Any, today: date
    ) -> None:
        old = name("triggers", today - timedelta(days=5))
        cursor.execute(f"ALTER TABLE triggers DETACH PARTITION {old}")
        assert old in droppable_partitions(cursor, keep_days=3)
        assert drop_partition(connect(), old) == "dropped"
        assert not exists(cursor, old)

    def test_one_with_foreign_keys_goes(self, connect: Connect, cursor: Any, today: date) -> None:
        ensure(connect, days_back=100)
        old = droppable_partitions(cursor, keep_days=60)
        month = next(each for each in old if each.startswith("rate_limit_logs_"))
        changing = connect(autocommit=False)
        changing.cursor().execute("UPDATE users SET is_active = false")
        assert drop_partition(connect(), month) == "busy"
        changing.rollback()
        assert drop_partition(connect(), month) == "dropped"
        assert not exists(cursor, month)

    def test_only_one_process_drops_at_a_time(self, connect: Connect, cursor: Any, today: date) -> None:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('pointsman.partitions.drop', 0))")
        old = name("triggers", today - timedelta(days=5))
        assert drop_partition(connect(), old) == "busy"
        cursor.execute("SELECT pg_advisory_unlock_all()")
        assert drop_partition(connect(), old) == "dropped"

    def test_the_connection_is_left_as_it_was(self, connect: Connect, today: date) -> None:
        connection = connect()
        cursor = connection.cursor()
        cursor.execute("SET lock_timeout = '7s'")
        drop_partition(connection, name("triggers", today - timedelta(days=5)))
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)

    @pytest.mark.parametrize("days", [0, 3])
    def test_neither_today_nor_what_is_to_come_goes(self, connect: Connect, today: date, days: int) -> None:
        with pytest.raises(ValueError, match="no partition of the past"):
            drop_partition(connect(), name("triggers", today + timedelta(days=days)))

    @pytest.mark.parametrize("other", ["users", "triggers", "runs_20200101"])
    def test_nothing_but_partitions_goes(self, connect: Connect, other: str) -> None:
        with pytest.raises(ValueError, match="no partition of the past"):
            drop_partition(connect(), other)

    def test_a_transaction_is_refused(self, connect: Connect, today: date) -> None:
        with pytest.raises(ValueError, match="autocommit"):
            drop_partition(connect(autocommit=False), name("triggers", today - timedelta(days=5)))


def test_a_lost_connection_is_not_called_busy(connect: Connect, cursor: Any, today: date) -> None:
    ensure(connect, days_back=5)
    lost = connect()
    cursor.execute("SELECT pg_terminate_backend(%s)", (lost.info.backend_pid,))
    with pytest.raises(psycopg2.OperationalError):
        drop_partition(lost, name("triggers", today - timedelta(days=5)))
