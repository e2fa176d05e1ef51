"""Workers: the heartbeat of each process that holds runs.

Invariant: an id is new at each start of a process and never used again. `heartbeat_at` carries no
index, so that a heartbeat is rewritten in place.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import EMPTY_ARRAY, NOW, Base, Key


class Worker(Base):
    """One worker process: what it can hold, what it holds, and what it is told to do.

    lanes: none for a process of suspects. key_ids: of the encryption keys that it knows.
    """

    __tablename__ = "workers"

    id: Mapped[Key]
    host: Mapped[str]
    lanes: Mapped[list[str]]
    capacity: Mapped[int]
    in_flight: Mapped[int] = mapped_column(server_default=text("0"))
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=NOW)
    desired_state: Mapped[str] = mapped_column(server_default="RUNNING")
    key_ids: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
