"""Rate limit logs: the durable form of the counters that Redis keeps.

Invariant: a callback has one row for each period ('second', 'minute', 'hour', 'month') and start.
Flushed every few seconds, read back when Redis has lost its own. Partitioned by the period's start.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Key, Timestamps


class RateLimitLog(Timestamps, Base):
    """How many requests a callback took in one period."""

    __tablename__ = "rate_limit_logs"

    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[Key]
    callback_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("callbacks.id", ondelete="CASCADE"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    period: Mapped[str]
    request_count: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        UniqueConstraint("callback_id", "period", "period_start"),
        {"postgresql_partition_by": "RANGE (period_start)"},
    )
