"""Actions: the outgoing steps of a callback.

Invariants:

- A credential that an action uses cannot be deleted (no cascade, an error at the end of the
  statement), but deleting the user takes actions and credentials alike. `order` ascending, then
  `id`, is the order of the steps.
- Consecutive `parallel` actions are one step.
- Two actions of a callback have no name in common.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_ARRAY, FALSE, MARKED, TRUE, Base, Key, Timestamps
from shared.models.enums import ActionType, OnFailure


class Action(Timestamps, Base):
    """One outgoing step; `config` has the shape of its type in `shared.action_types`.

    reads: the names of earlier actions of its callback whose answers its templates read.
    """

    __tablename__ = "actions"

    id: Mapped[Key]
    callback_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("callbacks.id", ondelete="CASCADE"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    type: Mapped[ActionType]
    config: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(server_default=TRUE)
    order: Mapped[int] = mapped_column(server_default=text("0"))
    parallel: Mapped[bool] = mapped_column(server_default=FALSE)
    name: Mapped[str | None]
    on_failure: Mapped[OnFailure] = mapped_column(server_default=OnFailure.STOP)
    retry: Mapped[dict[str, Any] | None]
    condition: Mapped[str | None]
    reads: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    credential_id: Mapped[uuid.UUID | None] = mapped_column(
        # NO ACTION looks at the end of the statement, when a deleted user's actions are gone as
        # well; RESTRICT would look at once and refuse
        ForeignKey("service_credentials.id", ondelete="NO ACTION"),
        index=True,
    )
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "callback_id", "order"),
        Index(None, "deleted_at", postgresql_where=MARKED),
        Index(
            "uq_actions_callback_id_name",
            "callback_id",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )
