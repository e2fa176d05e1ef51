"""Trigger tokens that were rotated away lead to their callback for a while.

Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "retired_tokens",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_retired_tokens_callback_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name="pk_retired_tokens"),
    )
    op.create_index("ix_retired_tokens_callback_id", "retired_tokens", ["callback_id"])
    op.create_index("ix_retired_tokens_expires_at", "retired_tokens", ["expires_at"])
