"""What the engine hands to an action type and what it gets back.

Each action type is a module with three functions:

    prepare(action, context) → request      pure; raises Invalid when the config cannot be used
    perform(request, doors)  → delivery     the side effect; raises nothing but CancelledError
    classify(delivery)       → Outcome      pure; says whether another attempt could help

`attempt()` is the only caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.crypto import SecretBox
from worker.actions.storage import Storage
from worker.egress.http import Egress


@dataclass(frozen=True, slots=True)
class Trigger:
    """One recorded call of a trigger URL. headers: JSON text, a list of [name, value]."""

    id: UUID
    callback_id: UUID
    user_id: UUID
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Callback:
    """What an attempt needs of its callback.

    signing_secrets: ciphertexts that are in force, newest first. active: neither it nor its user is switched off.
    """

    id: UUID
    user_id: UUID
    name: str
    url: str
    timeout_ms: int
    signing_secrets: tuple[str, ...]
    active: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """An action as its row was when the attempt began.

    flaw: why its row cannot be used, if so. rank: its place among the actions of its callback by their ids,
    deleted ones included, where the action was read for a first claim; else 0.
    """

    id: UUID
    callback_id: UUID
    type: str
    name: str | None
    order: int
    parallel: bool
    enabled: bool
    stops_on_failure: bool
    config: dict[str, Any]
    retry: dict[str, Any] | None
    flaw: str | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that hold for every attempt."""

    max_response_bytes: int
    max_stored_item_bytes: int
    max_stored_items: int


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """Everything around one attempt. sent_at: unix seconds of this attempt."""

    trigger: Trigger
    callback: Callback
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
