"""Runs count the losses that they suffered alone.

Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column(
        "runs", sa.Column("losses_alone", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.execute("ALTER TABLE runs SET (fillfactor = 45)")  # the row has grown, see shared/models/runs.py
