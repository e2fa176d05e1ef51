"""Kept answers: what a management call with an `Idempotency-Key` was told, for whoever repeats it.

Invariant: committed together with what the call changed, so that there is an answer exactly when
there is a change. `answer` is ciphertext, and holds nothing that is shown only once. A key names
one call of its user, method and path until it expires.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base


class KeptAnswer(Base):
    """One answer. request_hash: SHA-256 of the query and body that it was given to."""

    __tablename__ = "kept_answers"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    status: Mapped[int]
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(index=True)
