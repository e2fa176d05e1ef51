"""Runs say whether a caller waits for their end.

Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column("runs", sa.Column("awaited", sa.Boolean(), server_default=sa.text("false"), nullable=False))
