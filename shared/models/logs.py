"""Logs: how each trigger ended, and the notable events of a callback.

Invariants:

- A settled trigger has exactly one row, with the trigger's own id, so that a second settle clashes
  with the primary key.
- An event has an id of its own.

Append-only, partitioned by day through the time in the key. No foreign keys: the purge keeps the
cascade.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, TRUE, Base, Key


class Log(Base):
    """One outcome or event; response_time is from accept to settle, in ms."""

    __tablename__ = "logs"

    id: Mapped[Key]
    event: Mapped[str]
    details: Mapped[dict[str, Any] | None]
    callback_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    response_time: Mapped[int | None]
    status_code: Mapped[int | None]
    success: Mapped[bool] = mapped_column(server_default=TRUE)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        Index(None, "callback_id", "id"),
        Index(None, "user_id", "id"),
        Index("ix_logs_failures", "callback_id", "id", postgresql_where=text("NOT success")),
        Index("ix_logs_failures_of_user", "user_id", "id", postgresql_where=text("NOT success")),
        {"postgresql_partition_by": "RANGE (id)"},
    )
