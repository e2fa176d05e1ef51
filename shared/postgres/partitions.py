"""Partitions: made ahead, dropped when old, for the tables that grow with every trigger.

Invariants:

- An attached partition covers one UTC day (or month) by PostgreSQL's clock and is named for it.
- There is no default partition, so a key outside all of them is an error and nothing hides from
  pruning.
- A partition is made as a table of its own and attached, and dropped by way of DETACH CONCURRENTLY.
  Neither blocks the ingress for longer than LOCK_TIMEOUT_MS.
- None goes while a run of its time is unsettled, which could not settle without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from psycopg2 import errors, sql

from shared.ids import first_id_of

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 writes classes so
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# Queries queue behind a lock that waits; longer than this the ingress notices.
LOCK_TIMEOUT_MS = 200

# Another process may be making the same partitions: seconds, not minutes.
MAKER_TIMEOUT_MS = 10_000

_FIRST_DAY = date(1970, 1, 1)
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('pointsman.partitions.make', 0))"
_TRY_DROP_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('pointsman.partitions.drop', 0))"
_DROP_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('pointsman.partitions.drop', 0))"


@dataclass(frozen=True)
class PartitionedTable:
    """How one table is cut.

    bound: whether the key is a UUIDv7 or a moment. days_back: how far before today rows still
    arrive; what covers them is made and never droppable. storage: parameters of each partition,
    since PostgreSQL refuses them on the parent.
    """

    name: str
    key: str
    bound: Literal["uuid7", "timestamp"]
    span: Literal["day", "month"] = "day"
    days_back: int = 1
    storage: Mapping[str, int] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """A regular expression, for Python and PostgreSQL, that matches the names of its
        partitions.
        """
        return f"^{self.name}_([0-9]{{{8 if self.span == 'day' else 6}}})$"


TABLES = (
    PartitionedTable("triggers", "id", "uuid7"),
    # an execution is rewritten two or three times and grows by the receiver's answer: with two
    # thirds of each page free it stays on its page, so that no index is touched (at 50 %, four in
    # ten moved), and the table is smaller
    PartitionedTable("action_executions", "trigger_id", "uuid7", storage={"fillfactor": 35}),
    PartitionedTable("logs", "id", "uuid7"),
    # attaching locks the tables that its foreign keys name against writes, so seldom; and the row
    # of a month's window starts up to 31 days ago
    PartitionedTable("rate_limit_logs", "period_start", "timestamp", span="month", days_back=31),
)
"""Every partitioned table. Those with foreign keys come last: they may have to wait for a lock."""


@dataclass(frozen=True)
class Partition:
    """One partition, attached or not, whether it exists or not."""

    table: PartitionedTable
    start: date

    @property
    def name(self) -> str:
        return f"{self.table.name}_{self.start:{'%Y%m%d' if self.table.span == 'day' else '%Y%m'}}"

    @property
    def end(self) -> date:
        """The first day that is not in it."""
        if self.table.span == "day":
            return self.start + timedelta(days=1)
        return (self.start + timedelta(days=31)).replace(day=1)

    @property
    def bounds(self) -> tuple[str, str]:
        """Its keys' lowest value, and the lowest that is beyond it."""
        start, end = _midnight(self.start), _midnight(self.end)
        if self.table.bound == "uuid7":
            return str(first_id_of(start)), str(first_id_of(end))
        return start.isoformat(), end.isoformat()

    @staticmethod
    def covering(table: PartitionedTable, day: date) -> Partition:
        """Give the partition that a day falls into."""
        return Partition(table, day if table.span == "day" else day.replace(day=1))

    @staticmethod
    def named(name: str) -> Partition | None:
        """Give the partition of that name, or None if no table of ours has partitions named so."""
        for table in TABLES:
            if found := re.match(table.pattern, name):
                return Partition(
                    table, date.fromisoformat(found[1].ljust(8, "0")[:6] + (found[1][6:] or "01"))
                )
        return None


def partition_of_day(table: str, day: int) -> str:
    """Name a table's partition of a UTC day, counted from 1970, whether it exists or not."""
    (found,) = (one for one in TABLES if one.name == table)
    return Partition.covering(found, _FIRST_DAY + timedelta(days=day)).name


DropResult = Literal["dropped", "unsettled", "busy"]


def missing_partitions(cursor: Cursor, days_ahead: int = 7, days_back: int = 1) -> list[str]:
    """Name the partitions from days_back before today to days_ahead after it that are not
    attached.
    """
    return [partition.name for partition in _missing(cursor, days_ahead, days_back)]


def ensure_partitions(cursor: Cursor, days_ahead: int = 7, days_back: int = 1) -> list[str]:
    """Make and attach the partitions that are missing, and name those made.

    Works in the cursor's transaction, which should have no other work, and which the caller
    commits; ValueError if the connection is in autocommit. Two processes may call it at once. One
    whose lock is not free within LOCK_TIMEOUT_MS is left for the next call: missing_partitions
    tells.
    """
    if cursor.connection.autocommit:
        raise ValueError("ensure_partitions needs a transaction: its lock lasts as long as that.")
    _set_lock_timeout(cursor, MAKER_TIMEOUT_MS)
    cursor.execute(_LOCK)
    _set_lock_timeout(cursor, LOCK_TIMEOUT_MS)
    return [
        partition.name for partition in _missing(cursor, days_ahead, days_back) if _make(cursor, partition)
    ]


def droppable_partitions(cursor: Cursor, keep_days: int) -> list[str]:
    """Name the partitions, oldest first, whose last day is more than keep_days ago and that hold no
    run.

    Those that an interrupted drop left half detached, or detached and not dropped, are among them.
    """
    today = _today(cursor)
    return [
        partition.name
        for partition in sorted(_existing(cursor), key=lambda partition: partition.start)
        if partition.end <= today - timedelta(days=max(keep_days, partition.table.days_back))
        and not _has_runs(cursor, partition)
    ]


def drop_partition(connection: Connection, name: str) -> DropResult:
    """Detach a partition and drop it, without making anybody wait.

    `unsettled`: a run of its time exists. `busy`: a lock was not free within LOCK_TIMEOUT_MS, or
    another process is dropping; calling again later goes on where this call stopped. ValueError
    for a name that is no past partition, and for a connection that is not in autocommit (DETACH
    CONCURRENTLY refuses a transaction).
    """
    if not connection.autocommit:
        raise ValueError("drop_partition needs a connection in autocommit.")
    partition = Partition.named(name)
    with connection.cursor() as cursor:
        if partition is None or partition.end > _today(cursor):
            raise ValueError(f"{name} is no partition of the past.")
        cursor.execute(_TRY_DROP_LOCK)
        if not cursor.fetchone()[0]:
            return "busy"
        try:
            return _drop(cursor, partition)
        finally:
            cursor.execute(_DROP_UNLOCK)


def _drop(cursor: Cursor, partition: Partition) -> DropResult:
    if _has_runs(cursor, partition):
        return "unsettled"
    names = {"parent": sql.Identifier(partition.table.name), "name": sql.Identifier(partition.name)}
    cursor.execute("SHOW lock_timeout")
    (usual_timeout,) = cursor.fetchone()
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", (str(LOCK_TIMEOUT_MS),))
    try:
        if detach := _next_detach(cursor, partition):
            cursor.execute(sql.SQL("ALTER TABLE {parent} DETACH PARTITION {name} " + detach).format(**names))
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {name}").format(**names))
    except (errors.LockNotAvailable, errors.ObjectNotInPrerequisiteState):
        return "busy"  # the second: a sibling is half detached, and PostgreSQL allows one at a time
    finally:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", (usual_timeout,))
    return "dropped"


def _next_detach(cursor: Cursor, partition: Partition) -> str | None:
    """Say how to detach it: not at all, anew, or by finishing what was begun."""
    cursor.execute(
        "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s) AND inhparent = %s::regclass",
        (partition.name, partition.table.name),
    )
    attached = cursor.fetchone()
    if attached is None:
        return None
    return "FINALIZE" if attached[0] else "CONCURRENTLY"


def _make(cursor: Cursor, partition: Partition) -> bool:
    """Make and attach one partition; False if a lock was not free in time."""
    names = {"parent": sql.Identifier(partition.table.name), "name": sql.Identifier(partition.name)}
    storage = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value))
        for key, value in partition.table.storage.items()
    )
    with_storage = sql.SQL(" WITH ({})").format(storage) if partition.table.storage else sql.SQL("")
    cursor.execute("SAVEPOINT make_partition")
    try:
        cursor.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {name} (LIKE {parent} INCLUDING ALL)").format(**names)
            + with_storage
        )
        cursor.execute(
            sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)").format(
                **names
            ),
            partition.bounds,
        )
    except errors.LockNotAvailable:
        cursor.execute("ROLLBACK TO SAVEPOINT make_partition")
        return False
    cursor.execute("RELEASE SAVEPOINT make_partition")
    return True


def _missing(cursor: Cursor, days_ahead: int, days_back: int) -> list[Partition]:
    attached = _attached(cursor)
    today = _today(cursor)
    return [
        partition
        for table in TABLES
        for partition in _window(
            table, today - timedelta(days=max(days_back, table.days_back)), today + timedelta(days=days_ahead)
        )
        if partition.name not in attached
    ]


def _window(table: PartitionedTable, first: date, last: date) -> Iterator[Partition]:
    partition = Partition.covering(table, first)
    while partition.start <= last:
        yield partition
        partition = Partition(table, partition.end)


def _attached(cursor: Cursor) -> set[str]:
    cursor.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ANY(%s::regclass[]) AND NOT i.inhdetachpending",
        ([table.name for table in TABLES],),
    )
    return {name for (name,) in cursor.fetchall()}


def _existing(cursor: Cursor) -> list[Partition]:
    """All partitions, attached or not, that stand beside their parents."""
    cursor.execute(
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_class parent USING (relnamespace)"
        " WHERE c.relkind = 'r' AND parent.oid = ANY(%s::regclass[]) AND c.relname ~ ANY(%s)",
        ([table.name for table in TABLES], [table.pattern for table in TABLES]),
    )
    return [partition for (name,) in cursor.fetchall() if (partition := Partition.named(name))]


def _has_runs(cursor: Cursor, partition: Partition) -> bool:
    if partition.table.bound != "uuid7":
        return False
    cursor.execute(
        "SELECT EXISTS (SELECT FROM runs WHERE trigger_id >= %s AND trigger_id < %s)", partition.bounds
    )
    return bool(cursor.fetchone()[0])


def _today(cursor: Cursor) -> date:
    cursor.execute("SELECT (now() AT TIME ZONE 'UTC')::date")
    today: date = cursor.fetchone()[0]
    return today


def _set_lock_timeout(cursor: Cursor, milliseconds: int) -> None:
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (str(milliseconds),))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
