"""Triggers: every recorded call of a trigger URL.

Invariants:

- Written once and never changed.
- What is in motion is the run, how it ended is the log.

Partitioned by day through the time in the key. No foreign keys: the purge keeps the cascade.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base, Key


class Trigger(Base):
    """One call: its body is the bytes that came, uninterpreted."""

    __tablename__ = "triggers"

    id: Mapped[Key]
    callback_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    method: Mapped[str]
    path: Mapped[str]
    query: Mapped[str] = mapped_column(server_default="")
    headers: Mapped[dict[str, Any]]
    content_type: Mapped[str | None]
    body: Mapped[bytes]
    source_ip: Mapped[str | None] = mapped_column(INET)
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    replay_of: Mapped[uuid.UUID | None]
    idempotency_key: Mapped[str | None]

    __table_args__ = (
        Index(None, "callback_id", "id"),
        Index(None, "user_id", "id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )
