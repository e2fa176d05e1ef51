"""Let a new idempotency key lock nothing but itself (see shared/models/idempotency_keys.py).

Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.drop_constraint("fk_idempotency_keys_callback_id", "idempotency_keys", type_="foreignkey")
