"""What the engine hands to an action type and what it gets back.

Each action type is a module that has what Kind names. `attempt()` is the only caller. This module
imports no driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from shared.crypto import SecretBox
from worker.doors import Door
from worker.records import ActionRecord, CallbackRecord, TriggerRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that hold for every attempt."""

    max_response_bytes: int
    max_stored_item_bytes: int
    max_stored_items: int


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """Everything around one attempt. sent_at: unix seconds of this attempt."""

    trigger: TriggerRecord
    callback: CallbackRecord
    execution_id: UUID
    attempt: int
    sent_at: int
    secrets: SecretBox
    limits: Limits


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    retryable: whether another attempt could succeed. retry_after_seconds: the receiver's floor.
    gone: the receiver asks never to be called again. unsent: no connection came about, or a kept one had been
    closed, so that trying at once makes sense. response: what is kept of the answer (JSON).
    """

    success: bool
    code: str = "ok"
    error: str | None = None
    retryable: bool = False
    status_code: int | None = None
    retry_after_seconds: float | None = None
    gone: bool = False
    unsent: bool = False
    response: dict[str, Any] | None = None

    @classmethod
    def permanent(cls, code: str, error: str) -> Outcome:
        """A failure that no further attempt can fix."""
        return cls(success=False, code=code, error=error)


class Kind(Protocol):
    """What the module of each action type has. request and delivery are of its own types.

    DOOR: the class of the door that perform() gets, already open.
    """

    @property
    def DOOR(self) -> type[Door]:  # noqa: N802
        ...

    def prepare(self, action: ActionRecord, context: AttemptContext) -> Any:
        """The request. Pure; raises Invalid when the config or a secret cannot be used."""
        ...

    async def perform(self, request: Any, door: Any) -> Any:
        """The side effect; returns the delivery, raises nothing but CancelledError."""
        ...

    def classify(self, delivery: Any) -> Outcome:
        """How the attempt ended, and whether another could help. Pure."""
        ...
