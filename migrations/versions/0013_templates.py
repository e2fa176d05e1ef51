"""Actions say whose answers their templates read, and have names of their own.

Revises: 0012

Of the actions of one callback that have the same name, all but the oldest get a number behind it.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the workers
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("ALTER TABLE actions ADD COLUMN IF NOT EXISTS reads text[] NOT NULL DEFAULT '{}'")
    op.execute(
        """
        UPDATE actions a SET name = a.name || ' ' || n.number || '-' || left(a.id::text, 8)
        FROM (SELECT id, row_number() OVER (PARTITION BY callback_id, name ORDER BY id) AS number
              FROM actions WHERE deleted_at IS NULL AND name IS NOT NULL) n
        WHERE n.id = a.id AND n.number > 1
        """
    )
    op.execute(
        """
        CREATE UNIQUE INDEX IF NOT EXISTS uq_actions_callback_id_name ON actions (callback_id, name)
        WHERE deleted_at IS NULL
        """
    )
