"""Rate limits: how many triggers a plan lets a callback take in four windows."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import TRUE, Base, Key, Timestamps


class RateLimit(Timestamps, Base):
    """The limits of a plan; switched off, the plan has none."""

    __tablename__ = "rate_limits"

    id: Mapped[Key]
    plan_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("subscription_plans.id", ondelete="CASCADE"), index=True
    )
    requests_per_second: Mapped[int] = mapped_column(server_default=text("1"))
    requests_per_minute: Mapped[int] = mapped_column(server_default=text("60"))
    requests_per_hour: Mapped[int] = mapped_column(server_default=text("1000"))
    requests_per_month: Mapped[int] = mapped_column(server_default=text("10000"))
    is_active: Mapped[bool] = mapped_column(server_default=TRUE)
