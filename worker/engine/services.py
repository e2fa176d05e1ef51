"""What every run of a worker uses, made once by the engine and passed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from shared.crypto import SecretBox
from worker.actions.contract import Limits
from worker.doors import Doors
from worker.engine.journal import Journal
from worker.engine.preparing import Preparing
from worker.engine.room import Room
from worker.engine.uses import CredentialUses


@dataclass(frozen=True, slots=True)
class RunServices:
    """The journal, the room, the doors, what makes executions ready, and what is asked of the
    worker.

    uses: of credentials. may_start: whether the local lease is held.
    tell: says, without waiting, that an awaited run has settled.
    """

    journal: Journal
    room: Room
    doors: Doors
    preparing: Preparing
    secrets: SecretBox
    limits: Limits
    may_start: Callable[[], bool]
    tell: Callable[[UUID], None] = lambda _trigger_id: None
    uses: CredentialUses = field(default_factory=CredentialUses)
