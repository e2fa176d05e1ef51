"""Idempotency keys: which trigger a repeated request gets.

Invariant: a key names one trigger of its callback until it expires. Never partitioned: uniqueness
does not reach across partitions. No foreign key, as on all of the ingress's path: each new key
would lock its callback's row, and a change of the callback would keep a whole batch waiting. The
purge keeps the cascade.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base


class IdempotencyKey(Base):
    """A key that a caller sent, or one made of a request that is answered from the cache."""

    __tablename__ = "idempotency_keys"

    callback_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    trigger_id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(index=True)
