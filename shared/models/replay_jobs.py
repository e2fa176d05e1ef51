"""Replay jobs: many triggers of a callback recorded once more, in the background.

Invariant: `last_trigger_id` moves in the transaction that records the replays up to it, so that a
job which is interrupted anywhere goes on where it was and replays no trigger twice. A job only sees
what was received before `received_to`, which lies before its first replay: it never replays its
own.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Key, Timestamps
from shared.models.enums import ExecutionStatus, ReplayStart, ReplayState


class ReplayJob(Timestamps, Base):
    """Which triggers, how far it is, and how it ended; total is NULL until it was counted."""

    __tablename__ = "replay_jobs"

    id: Mapped[Key]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    callback_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("callbacks.id", ondelete="CASCADE"), index=True)
    status: Mapped[ExecutionStatus]
    start: Mapped[ReplayStart]
    received_from: Mapped[datetime | None]
    received_to: Mapped[datetime]
    state: Mapped[ReplayState] = mapped_column(server_default=ReplayState.RUNNING)
    last_trigger_id: Mapped[uuid.UUID | None]
    total: Mapped[int | None]
    replayed: Mapped[int] = mapped_column(server_default=text("0"))
    skipped: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "user_id", "id"),
        Index("ix_replay_jobs_open", "id", postgresql_where=text("state = 'RUNNING'")),
    )
