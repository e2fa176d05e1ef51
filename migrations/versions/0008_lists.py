"""Indexes in the order of the lists: triggers, logs and stored items of a user, and failures.

Revises: 0007

Built beside the traffic, partition by partition: an index of the whole table adopts those that its
partitions have. An interrupted build leaves an invalid index, which the next try drops.
"""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_triggers_user_id_id", "triggers", ""),
    ("ix_logs_user_id_id", "logs", ""),
    ("ix_logs_failures_of_user", "logs", " WHERE NOT success"),
)
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relname = %s AND i.indrelid = %s::regclass
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, table, where in INDEXES:
            if _ask("SELECT to_regclass(%s)", name) != [None]:
                continue  # built by an earlier try: partitions that came since have it from their parent
            for partition in _ask(PARTITIONS, table):
                _build(name.replace(table, partition, 1), partition, where)
            # queries queue behind a lock that waits: better fail and repeat than stall the ingress
            op.execute("SET lock_timeout = '3s'")
            op.execute(f"CREATE INDEX {name} ON {table} (user_id, id){where}")
            op.execute("SET lock_timeout = 0")  # as before; RESET would be what the role says
        _build("ix_stored_items_user_id_id", "stored_items", "")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_stored_items_user_id")


def _build(index: str, table: str, where: str) -> None:
    """Build an index beside the traffic.

    It waits for those that began before it, and nobody waits for it.
    """
    for invalid in _ask(INVALID, index, table):
        op.execute(f"DROP INDEX CONCURRENTLY {invalid}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {table} (user_id, id){where}")


def _ask(question: str, *parameters: str) -> list[Any]:
    return [row[0] for row in op.get_bind().exec_driver_sql(question, parameters)]
