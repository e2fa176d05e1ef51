"""Leave more of each page free for the executions of the days to come.

Revises: 0005

See shared/postgres/partitions.py.
Partitions that exist already were made a week ahead; rows that are on full pages stay where they
are.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FILLFACTOR = 35


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    partitions = op.get_bind().exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'action_executions'::regclass"
    )
    for (name,) in partitions.fetchall():
        op.execute(f"ALTER TABLE {name} SET (fillfactor = {FILLFACTOR})")
