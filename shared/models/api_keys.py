"""API keys: what programs present instead of a session token.

Invariant: the key itself is shown once and stored nowhere: `key` is its SHA-256 in hex, `prefix`
its first 12 characters, by which a user knows it again.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_ARRAY, Base, Key, Timestamps


class ApiKey(Timestamps, Base):
    """One key and what it may do: read, write, admin."""

    __tablename__ = "api_keys"

    id: Mapped[Key]
    name: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    permissions: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
