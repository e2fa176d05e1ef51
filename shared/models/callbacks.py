"""Callbacks: what a user defines and the world triggers.

Invariants:

- A trigger token and a custom path each name one callback. `timeout_duration` is in ms,
  `cache_period` in seconds (0: off). The secrets in `signing_secrets` are ciphertext. A callback
  with `deleted_at` is gone for the API and the ingress.
- The purge removes its rows, then itself.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_ARRAY, EMPTY_LIST, EMPTY_OBJECT, MARKED, TRUE, Base, Key, Timestamps


class Callback(Timestamps, Base):
    """A target URL, a public trigger URL and how they are guarded.

    signing_secrets: [{"secret", "createdAt", "expiresAt"}], newest first.
    """

    __tablename__ = "callbacks"

    id: Mapped[Key]
    name: Mapped[str]
    callback_url: Mapped[str]
    active_status: Mapped[bool] = mapped_column(server_default=TRUE)
    trigger_token: Mapped[str | None] = mapped_column(
        unique=True, server_default=text("(gen_random_uuid())::text")
    )
    custom_path: Mapped[str | None] = mapped_column(unique=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    timeout_duration: Mapped[int] = mapped_column(server_default=text("30000"))
    cache_period: Mapped[int] = mapped_column(server_default=text("0"))
    tags: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    signing_secrets: Mapped[list[dict[str, Any]]] = mapped_column(server_default=EMPTY_LIST)
    verification: Mapped[dict[str, Any] | None]
    delivery: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    deleted_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id", "id"), Index(None, "deleted_at", postgresql_where=MARKED))
