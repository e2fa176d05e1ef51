"""Replays in bulk.

Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATE = postgresql.ENUM("RUNNING", "DONE", "CANCELLED", "FAILED", name="replay_state", create_type=False)
START = postgresql.ENUM("failed", "start", name="replay_start", create_type=False)
STATUS = postgresql.ENUM(
    "PENDING", "RUNNING", "SUCCESS", "FAILED", name="execution_status", create_type=False
)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    STATE.create(op.get_bind())
    START.create(op.get_bind())
    op.create_table(
        "replay_jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("start", START, nullable=False),
        sa.Column("received_from", TIME, nullable=True),
        sa.Column("received_to", TIME, nullable=False),
        sa.Column("state", STATE, server_default="RUNNING", nullable=False),
        sa.Column("last_trigger_id", sa.Uuid(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("replayed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replay_jobs"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_replay_jobs_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_replay_jobs_callback_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_replay_jobs_user_id_id", "replay_jobs", ["user_id", "id"])
    op.create_index("ix_replay_jobs_callback_id", "replay_jobs", ["callback_id"])
    op.create_index(
        "ix_replay_jobs_open", "replay_jobs", ["id"], postgresql_where=sa.text("state = 'RUNNING'")
    )
