"""Probes.

Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATE = postgresql.ENUM("PENDING", "RUNNING", "DONE", name="probe_state", create_type=False)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    STATE.create(op.get_bind())
    op.create_table(
        "probes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("state", STATE, server_default="PENDING", nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("claimed_at", TIME, nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("expires_at", TIME, server_default=sa.text("now() + interval '1 hour'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_probes"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_probes_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_probes_user_id_created_at", "probes", ["user_id", "created_at"])
    op.create_index("ix_probes_expires_at", "probes", ["expires_at"])
    op.create_index("ix_probes_open", "probes", ["created_at"], postgresql_where=sa.text("state <> 'DONE'"))
