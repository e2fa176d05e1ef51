"""Which encryption keys a start must have, and which ones each worker knows.

Revises: 0014

The rows come with the next start (shared/keyring/checks.py): it knows the keys.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the workers
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("""
        CREATE TABLE IF NOT EXISTS key_checks (
          key_id text NOT NULL, sealed text NOT NULL, created_at timestamptz DEFAULT now() NOT NULL,
          CONSTRAINT pk_key_checks PRIMARY KEY (key_id))
    """)
    op.execute("ALTER TABLE workers ADD COLUMN IF NOT EXISTS key_ids text[] DEFAULT '{}'::text[] NOT NULL")
