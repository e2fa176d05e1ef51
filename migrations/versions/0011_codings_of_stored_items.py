"""Stored items keep the coding and the language of their bytes.

Revises: 0010

Items of an earlier version have none: what their bytes were sent under was not kept.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the workers
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for column in ("content_encoding", "content_language"):
        op.execute(f"ALTER TABLE stored_items ADD COLUMN IF NOT EXISTS {column} text")
