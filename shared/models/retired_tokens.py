"""Retired tokens: trigger tokens that were rotated away and still lead to their callback.

Invariant: a token stands here or in `callbacks.trigger_token`, never in both; it holds until
`expires_at`, and leads nowhere once its callback is deleted. A duty removes it afterwards.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base


class RetiredToken(Base):
    """An old trigger token of a callback, in its grace time."""

    __tablename__ = "retired_tokens"

    token: Mapped[str] = mapped_column(primary_key=True)
    callback_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("callbacks.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(index=True)
