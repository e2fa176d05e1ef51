"""Subscriptions: which plan a user has, and since when.

Invariant: a user has at most one. It goes with its user, and with its plan (the API refuses to
delete a plan that has subscriptions).
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Key, Timestamps
from shared.models.enums import SubscriptionStatus


class Subscription(Timestamps, Base):
    """One user's plan, and how it stands with Stripe."""

    __tablename__ = "subscriptions"

    id: Mapped[Key]
    plan_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("subscription_plans.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    stripe_customer_id: Mapped[str | None] = mapped_column(unique=True)
    stripe_subscription_id: Mapped[str | None] = mapped_column(unique=True)
    status: Mapped[SubscriptionStatus] = mapped_column(server_default=SubscriptionStatus.ACTIVE)
    current_period_start: Mapped[datetime | None]
    current_period_end: Mapped[datetime | None]
