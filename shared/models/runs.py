"""Runs: the triggers that are in motion, and nothing else.

Invariant: inserted with its trigger, deleted when it settles, so that its cost does not grow with
history. Every change of state holds the row by (trigger_id, worker_id, claim). `hint_at` carries
the only index: any other would make a status change cost an index entry.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import NOW, Base
from shared.models.enums import RunStatus

STORAGE = {
    "fillfactor": 45,  # room on the page, so that a claim, which lengthens the row, rewrites it in place
    # rows live for seconds: dead ones are cleared as soon as 2,000 have gathered, at full speed
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_cost_delay": 0,
}


class Run(Base):
    """A trigger's passage through its steps.

    due_at: when it may next be claimed; hint_at: when the sweep next looks at it; claim: the fence;
    losses: workers that died while they had it, since it last came to a pause by itself;
    losses_alone: those of them that had nothing else; awaited: a caller waits for its end, which is
    told through Redis.
    """

    __tablename__ = "runs"

    trigger_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    callback_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    status: Mapped[RunStatus] = mapped_column(server_default=RunStatus.PENDING)
    due_at: Mapped[datetime] = mapped_column(server_default=NOW)
    hint_at: Mapped[datetime]
    hint_count: Mapped[int] = mapped_column(server_default=text("0"))
    worker_id: Mapped[uuid.UUID | None]
    claim: Mapped[int] = mapped_column(server_default=text("0"))
    losses: Mapped[int] = mapped_column(server_default=text("0"))
    losses_alone: Mapped[int] = mapped_column(server_default=text("0"))
    awaited: Mapped[bool] = mapped_column(server_default=text("false"))
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (Index(None, "hint_at"), {"postgresql_with": STORAGE})
