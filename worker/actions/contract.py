"""What the engine hands to an action type and what it gets back.

Each action type is a module that has what Kind names. Its only caller is
worker/actions/__init__.py. An attempt is prepare → gate → commit RUNNING → perform → classify. What
is prepared before that commit, and ended there or held back by the gate, spends no attempt. What a
claim has committed is prepared after it. This module imports no driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from shared.config import Settings
from shared.crypto import SecretBox
from shared.templates.scope import Scope, Subject
from worker.doors import Door
from worker.records import ActionRecord, CallbackRecord, TriggerRecord

# What a receiver asks for beyond it counts as this.
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that hold for every attempt."""

    max_response_bytes: int
    max_stored_item_bytes: int
    max_stored_items: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.max_response_bytes, settings.max_stored_item_bytes, settings.max_stored_items)


class ExecutionContext(NamedTuple):
    """Everything around one execution that is the same for each of its attempts.

    answers: what earlier actions of its trigger were answered, by their names; those that its
    action reads. shared: what is read of its trigger for all its actions, if this one reads no
    answers.
    """

    trigger: TriggerRecord
    callback: CallbackRecord
    execution_id: UUID
    secrets: SecretBox
    limits: Limits
    answers: Mapping[str, Any] = MappingProxyType({})
    shared: Callable[[], Scope] | None = None

    def scope(self) -> Scope:
        """What its templates and its condition read."""
        return self.shared() if self.shared else scope_of(self.trigger, self.callback, self.answers)


def scope_of(trigger: TriggerRecord, callback: CallbackRecord, answers: Mapping[str, Any]) -> Scope:
    """What templates and conditions read of a trigger."""
    subject = Subject(
        trigger_id=trigger.id,
        received_at=trigger.received_at,
        method=trigger.method,
        path=trigger.path,
        query=trigger.query,
        headers=trigger.headers,
        content_type=trigger.content_type,
        body=trigger.body,
        callback_id=callback.id,
        callback_name=callback.name,
        answers=answers,
    )
    return Scope(subject)


class AttemptStamp(NamedTuple):
    """What belongs to one attempt alone.

    number: from 1. sent_at: unix seconds, PostgreSQL's time.
    """

    number: int
    sent_at: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, or what ended an execution without one.

    retryable: whether another attempt could succeed; the action's `retry` has the last word on an
    answer's status. retry_after_seconds: the receiver's floor.
    gone: the receiver asks never to be called again. unsent: no connection came about, or a kept
    one had been closed, so that trying at once makes sense. mended: what it was refused for is
    mended, so that trying at once makes sense, too. response: what is kept of the answer (JSON).
    """

    success: bool
    code: str = "ok"
    error: str | None = None
    retryable: bool = False
    status_code: int | None = None
    retry_after_seconds: float | None = None
    gone: bool = False
    unsent: bool = False
    mended: bool = False
    response: dict[str, Any] | None = None

    @property
    def response_bytes(self) -> int:
        """About how much memory the response takes."""
        return 0 if self.response is None else len(self.response.get("body") or "")

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

    def starts_at_claim(self, action: ActionRecord) -> bool:
        """Whether a claim may commit the first attempt as RUNNING before anything is prepared.

        Pure, and part of the claim's transaction. False where preparing or a gate may find that no
        attempt is due now.
        """
        ...

    def prepare(self, action: ActionRecord, config: Any, context: ExecutionContext) -> Any:
        """The request, or an Outcome that ends the execution, as a success or not.

        config: the model of the action's config, opened and rendered. Pure and synchronous; raises
        Invalid when the config or a secret cannot be used.
        """
        ...

    async def perform(self, request: Any, stamp: AttemptStamp, door: Any) -> Any:
        """The side effect; returns the delivery, raises nothing but CancelledError."""
        ...

    def classify(self, delivery: Any) -> Outcome:
        """How the attempt ended, and whether another could help. Pure."""
        ...


class Prepared(NamedTuple):
    """What can be performed: no Outcome.

    action: what it was prepared from. request: of the kind's own type.
    """

    kind: Kind
    action: ActionRecord
    request: Any
