"""Users: who owns everything else.

Invariants:

- An e-mail address belongs to one user, whatever its case. `password` is a bcrypt hash.
- `secret` (TOTP) and `slack_webhook_url` are ciphertext.

A user with `deleted_at` is gone for everybody but the purge, which removes what belongs to them and
then the row.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import MARKED, TRUE, Base, Key, Timestamps
from shared.models.enums import UserRole


class User(Timestamps, Base):
    """An account; as owner of data it is called tenant."""

    __tablename__ = "users"

    id: Mapped[Key]
    email: Mapped[str]
    password: Mapped[str]
    display_name: Mapped[str | None]
    secret: Mapped[str | None]
    role: Mapped[UserRole] = mapped_column(server_default=UserRole.FREE)
    is_active: Mapped[bool] = mapped_column(server_default=TRUE)
    slack_webhook_url: Mapped[str | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        Index(None, "deleted_at", postgresql_where=MARKED),
    )
