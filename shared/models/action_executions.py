"""Executions: one action for one trigger.

Invariants:

- A trigger has at most one for each action.
- SUCCESS and FAILED are never left again.
- An attempt is committed RUNNING, with its number, before its side effect.

Its id shares the first 12 bytes with its trigger's (`shared.ids`), by which it is partitioned, so
that a look-up by id reads one partition. No index names the status: its changes stay on the page.
No foreign keys: the purge keeps the cascades.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_LIST, Base, Timestamps
from shared.models.enums import ActionType, ExecutionStatus


class ActionExecution(Timestamps, Base):
    """One action for one trigger; `history` holds the attempts before the present one."""

    __tablename__ = "action_executions"

    trigger_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    action_id: Mapped[uuid.UUID]
    callback_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    type: Mapped[ActionType]
    step: Mapped[int] = mapped_column(server_default=text("0"))
    status: Mapped[ExecutionStatus] = mapped_column(server_default=ExecutionStatus.PENDING)
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    claim: Mapped[int] = mapped_column(server_default=text("0"))
    response: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    duration_ms: Mapped[int | None]
    next_attempt_at: Mapped[datetime | None]
    history: Mapped[list[dict[str, Any]]] = mapped_column(server_default=EMPTY_LIST)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("trigger_id", "action_id"),
        Index(None, "action_id", "id"),
        {"postgresql_partition_by": "RANGE (trigger_id)"},
    )
