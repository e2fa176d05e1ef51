"""Credentials say when they were last used.

Revises: 0015

NULL for those that were not used since.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the workers
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("ALTER TABLE service_credentials ADD COLUMN IF NOT EXISTS last_used_at timestamptz")
