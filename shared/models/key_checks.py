"""Key checks: which encryption keys whoever starts on this database must have.

Invariants:

- There is a row for each key that has sealed something here, from before it does so until nothing
  needs the key any more. `sealed` is a fixed text under that very key.
- A start that cannot open one of them is refused (shared/keyring/checks.py).

No secret stands here: the text says nothing, and the id is a fingerprint.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base


class KeyCheck(Base):
    """One key. key_id: its fingerprint, as in the texts that it has sealed."""

    __tablename__ = "key_checks"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
