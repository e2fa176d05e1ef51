"""Probes: what a user tries out by a test button, for an hour.

    PENDING ──claimed by a worker──▶ RUNNING ──it has a result, or its worker has died──▶ DONE
       └──────────────nobody has claimed it for minutes──────────────────────────────────▶ DONE

Invariant: what is in `request` and `result` is ciphertext. A probe that is DONE has a `result`, or
a `failure` that says why there is none, and no `request` any more.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base, Key
from shared.models.enums import ProbeState


class Probe(Base):
    """One request that is tried once. worker_id: who has claimed it."""

    __tablename__ = "probes"

    id: Mapped[Key]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    request: Mapped[str | None]
    state: Mapped[ProbeState] = mapped_column(server_default=ProbeState.PENDING)
    worker_id: Mapped[uuid.UUID | None]
    claimed_at: Mapped[datetime | None]
    result: Mapped[str | None]
    failure: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime] = mapped_column(server_default=text("now() + interval '1 hour'"), index=True)

    __table_args__ = (
        Index(None, "user_id", "created_at"),
        Index("ix_probes_open", "created_at", postgresql_where=text("state <> 'DONE'")),
    )
