"""What the engine hands to an action type and what it gets back.

Each action type is a module with three functions:

    prepare(action, context) → request      pure; raises Invalid when the config cannot be used
    perform(request, doors)  → delivery     the side effect; raises nothing but CancelledError
    classify(delivery)       → Outcome      pure; says whether another attempt could help

`attempt()` is the only caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.crypto import SecretBox
from worker.actions.storage import Storage
from worker.egress.http import Egress
from worker.records import CallbackRecord, TriggerRecord


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
class Doors:
    """The two ways out of an attempt: the network and the stored items."""

    egress: Egress
    storage: Storage


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
        """A failure that no further attempt can mend."""
        return cls(success=False, code=code, error=error)
