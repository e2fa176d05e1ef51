"""A run as a worker holds it in memory: the rows of one trigger, under one claim."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.templates.scope import Scope
from worker.actions.contract import Outcome, Prepared, scope_of
from worker.engine.retry import Again, Tries
from worker.records import ActionRecord, CallbackRecord, TriggerRecord

# What each row of a run takes in memory, a small response included.
ROW_OVERHEAD_BYTES = 2_000
SMALL_RESPONSE_BYTES = 1_000

# What a run may keep of its answers, all together, for later steps that read them.
MAX_ANSWERS_BYTES = 256 * 1024

# A larger body is read anew by each action. What is read of this one takes about 50 KiB at most.
MAX_READ_ONCE_BYTES = 2_048


class Status(enum.Enum):
    """The states of an execution, by their names in PostgreSQL. NEW has no row yet."""

    NEW = "NEW"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(slots=True, eq=False)
class Execution:
    """One action for one trigger. Changed only by the coroutine of its run.

    status RUNNING means: committed as RUNNING with this attempt number, its side effect may start.
    prepared: what was made of `action` for its next attempt, or the end that this came to; None
    until that is done. lost_attempts: earlier ones that ended with their worker or were released by
    it. immediate: a retry came at once, outside the schedule. is_due_at_once: that is what comes
    now, so that parking its run would only delay it.
    """

    id: UUID
    action_id: UUID
    type: str
    step: int
    status: Status
    attempt: int
    action: ActionRecord | None
    prepared: Prepared | Outcome | None = None
    next_attempt_at: datetime | None = None
    duration_ms: int | None = None
    outcome: Outcome | None = None
    stored_status_code: int | None = None
    retry_delay_seconds: float | None = None
    lost_attempts: int = 0
    immediate: bool = False
    is_due_at_once: bool = False

    @property
    def tries(self) -> Tries:
        """The attempts so far, the present one included."""
        return Tries(self.attempt - self.lost_attempts, self.immediate)

    @property
    def ended(self) -> bool:
        return self.status in (Status.SUCCESS, Status.FAILED)

    @property
    def status_code(self) -> int | None:
        """The receiver's answer: of this claim's attempt, else as an earlier claim stored it."""
        return self.stored_status_code if self.outcome is None else self.outcome.status_code

    @property
    def stops_on_failure(self) -> bool:
        """A deleted action stops nothing."""
        return self.action is not None and self.action.stops_on_failure

    def change(self, action: ActionRecord) -> None:
        """Have this action from now on, from which nothing is prepared yet."""
        self.action = action
        self.prepared = None

    def begin(self) -> None:
        """Be RUNNING, committed with the next number."""
        self.status = Status.RUNNING
        self.attempt += 1
        self.next_attempt_at = None  # else a clock that is set back would find it not due
        self.is_due_at_once = False

    def finish(self, outcome: Outcome, duration_ms: int | None = None) -> None:
        """Enter a terminal state."""
        self.prepared = None
        self.status = Status.SUCCESS if outcome.success else Status.FAILED
        self.outcome = outcome
        self.duration_ms = duration_ms
        self.next_attempt_at = None
        self.retry_delay_seconds = None
        self.is_due_at_once = False

    def retry(self, outcome: Outcome, duration_ms: int, again: Again, now: datetime) -> None:
        """Go back to PENDING until the next attempt."""
        self.prepared = None
        self.status = Status.PENDING
        self.outcome = outcome
        self.duration_ms = duration_ms
        self.retry_delay_seconds = again.delay_seconds
        self.next_attempt_at = now + timedelta(seconds=again.delay_seconds)
        self.immediate = self.immediate or again.immediate
        self.is_due_at_once = again.immediate

    def let_go_of_response(self) -> int:
        """Drop the response, which is written; how many bytes it was counted with."""
        if self.outcome is None or self.outcome.response is None:
            return 0
        size_bytes = self.outcome.response_bytes
        self.outcome = replace(self.outcome, response=None)
        return size_bytes if size_bytes > SMALL_RESPONSE_BYTES else 0

    def replace_outcome(self, outcome: Outcome) -> None:
        """Have failed so, and not as it did, which cannot be stored. A retry still comes."""
        self.outcome = outcome
        if self.status is Status.SUCCESS:
            self.status = Status.FAILED


@dataclass(slots=True, eq=False)
class HeldRun:
    """A trigger's passage through its steps, held under (trigger id, worker_id, claim).

    losses: workers that died while they had it. doom: a reason for which nothing of it may run, as
    `callback_deleted`. awaited: somebody is to be told when it settles. places: how many of its
    executions may be attempted at one moment. answers: what actions were answered, by their names,
    where a later step reads it.
    """

    trigger: TriggerRecord
    callback: CallbackRecord | None
    worker_id: UUID
    claim: int
    losses: int
    executions: list[Execution]
    doom: str | None = None
    awaited: bool = False
    places: int = 1
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers_bytes: int = 0
    _scope: Scope | None = None

    @property
    def id(self) -> UUID:
        return self.trigger.id

    @property
    def size_bytes(self) -> int:
        return (
            len(self.trigger.body)
            + len(self.trigger.headers)
            + ROW_OVERHEAD_BYTES * (1 + len(self.executions))
            + self.answers_bytes
        )

    def scope(self) -> Scope:
        """What templates read that need no answers. Of a small body it is read once for all."""
        if self._scope is not None:
            return self._scope
        assert self.callback is not None
        scope = scope_of(self.trigger, self.callback, {})
        if len(self.trigger.body) <= MAX_READ_ONCE_BYTES:
            self._scope = scope
        return scope

    def is_read(self, execution: Execution) -> bool:
        """Whether a step that is still to come reads what this execution was answered."""
        name = None if execution.action is None else execution.action.name
        return name is not None and any(
            name in later.action.reads
            for later in self.executions
            if later.action is not None and later.step > execution.step and not later.ended
        )

    def keep_answer(self, execution: Execution, response: dict[str, Any], size_bytes: int) -> bool:
        """Keep what an execution was answered for the steps that read it, if there is room."""
        assert execution.action is not None
        if self.answers_bytes + size_bytes > MAX_ANSWERS_BYTES:
            return False
        self.answers[str(execution.action.name)] = response
        self.answers_bytes += size_bytes
        return True

    def answers_for(self, execution: Execution) -> dict[str, dict[str, Any]]:
        """What this execution's action reads of earlier answers, by names."""
        if execution.action is None or not execution.action.reads:
            return {}
        found = {name: self.answers[name] for name in execution.action.reads if name in self.answers}
        for earlier in self.executions:  # those that are not written yet
            name = None if earlier.action is None else earlier.action.name
            if name in execution.action.reads and earlier.outcome is not None and earlier.outcome.response:
                found[str(name)] = earlier.outcome.response
        return found
