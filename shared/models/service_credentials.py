"""Credentials: a user's keys to the services that actions call.

Invariants:

- `secret` is ciphertext and leaves only for the one call that needs it.
- `meta` has the shape of its kind in `shared.credentials`; a URL in it is sealed beyond its origin.
- `last_used_at` is about the last attempt that used it, to a minute; no attempt waits for it.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Key, Timestamps
from shared.models.enums import ServiceProvider


class ServiceCredential(Timestamps, Base):
    """One secret of one provider."""

    __tablename__ = "service_credentials"

    id: Mapped[Key]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    provider: Mapped[ServiceProvider]
    secret: Mapped[str]
    meta: Mapped[dict[str, Any] | None]
    last_used_at: Mapped[datetime | None]
