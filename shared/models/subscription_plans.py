"""Plans: what a subscription costs and what it grants.

`max_triggers` counts per user and billing period; `max_timeout_duration` is in seconds (a
callback's own `timeout_duration` is in ms); `role` is what its subscribers become.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_ARRAY, TRUE, Base, Key, Timestamps
from shared.models.enums import UserRole


class SubscriptionPlan(Timestamps, Base):
    """A tier that users subscribe to."""

    __tablename__ = "subscription_plans"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str | None]
    price: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(server_default="USD")
    interval: Mapped[str] = mapped_column(server_default="month")
    max_triggers: Mapped[int]
    max_timeout_duration: Mapped[int]
    features: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    is_active: Mapped[bool] = mapped_column(server_default=TRUE)
    stripe_price_id: Mapped[str | None] = mapped_column(unique=True)
    role: Mapped[UserRole] = mapped_column(server_default=UserRole.FREE)
    retention_days: Mapped[int] = mapped_column(server_default=text("30"))
