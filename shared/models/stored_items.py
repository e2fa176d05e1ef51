"""Stored items: what STORE actions keep.

Invariant: an action keeps one item for one trigger, however often it is attempted. The item
outlives its action and its trigger, not its callback or its user. Its content is what came, and
type, coding and language say under what it came.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base, Key


class StoredItem(Base):
    """One kept value."""

    __tablename__ = "stored_items"

    id: Mapped[Key]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    callback_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("callbacks.id", ondelete="CASCADE"))
    action_id: Mapped[uuid.UUID]
    trigger_id: Mapped[uuid.UUID]
    key: Mapped[str | None]
    content: Mapped[bytes]
    content_type: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    content_encoding: Mapped[str | None]
    content_language: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("trigger_id", "action_id"),
        Index(None, "callback_id", "id"),
        Index(None, "user_id", "id"),
    )
