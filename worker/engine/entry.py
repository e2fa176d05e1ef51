"""One change of one run, as the journal writes it: all or nothing.

Invariant: what an entry writes of its run's attempts is made with it, in the run's own coroutine,
so that what cannot be written fails its run alone. An error is a code and a text until it is in a
row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shared.json_text import to_json
from worker.actions.contract import Outcome
from worker.engine.state import Execution, HeldRun, Status

ENTRY_BYTES = 500


@dataclass(frozen=True, slots=True)
class Settled:
    """The run ends: its row goes, its log row comes. details: reason and the steps' results."""

    success: bool
    status_code: int | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parked:
    """The run waits for a retry, this many seconds from now."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """The run is given back at once; what was RUNNING becomes PENDING with this in its history."""

    outcome: str


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """One execution's new values, as columns of the UPDATE."""

    id: UUID
    trigger_id: UUID
    status: str
    attempt: int
    claim: int
    response: str | None
    error: str | None
    duration_ms: int | None
    delay_seconds: float | None
    history: str | None
    starts: bool


@dataclass(slots=True)
class Entry:
    """One change of one run.

    changed: executions that have ended or wait for a retry; their state in memory is written.
    starting: executions whose step has come, and what was prepared of each. One is committed as
    RUNNING, or ended if preparing has ended it, as long as its action has not changed since.
    end: how the run leaves this worker, if it does.
    was_tried: it may be written already, since the answer of a COMMIT was lost.
    rows, details: what is written of `changed` and of a settled run.
    first_rows: by action id, what is written of each in `starting` if its action has not changed.
    """

    run: HeldRun
    changed: tuple[Execution, ...] = ()
    starting: tuple[Execution, ...] = ()
    end: Settled | Parked | Released | None = None
    was_tried: bool = field(init=False, default=False)
    rows: list[ExecutionRow] = field(init=False)
    first_rows: dict[UUID, ExecutionRow] = field(init=False)
    details: str = field(init=False, default="{}")

    def __post_init__(self) -> None:
        assert not self.starting or set(self.changed).isdisjoint(self.starting), (
            "of two rows for one execution PostgreSQL would take either"
        )
        self.rows = [_changed_row(self.run, execution) for execution in self.changed]
        self.first_rows = {e.action_id: _first_row(self.run, e) for e in self.starting}
        if isinstance(self.end, Settled):
            self.details = to_json(self.end.details)

    @property
    def size(self) -> int:
        """About how many bytes it holds until it is written."""
        return (
            ENTRY_BYTES * (1 + len(self.changed) + len(self.starting))
            + len(self.details)
            # the text, and what it was made of
            + 2 * sum(len(row.response or "") for row in (*self.rows, *self.first_rows.values()))
        )


def ended_row(run: HeldRun, execution: Execution, outcome: Outcome) -> ExecutionRow:
    """What is written of an execution that ends without another attempt."""
    return _row(
        run,
        execution,
        "SUCCESS" if outcome.success else "FAILED",
        response=_response_text(outcome),
        error=_error_text(outcome),
    )


def _first_row(run: HeldRun, execution: Execution) -> ExecutionRow:
    """It is RUNNING, with the next number; or it has ended by what was prepared of it."""
    if isinstance(execution.prepared, Outcome):
        return ended_row(run, execution, execution.prepared)
    return _row(run, execution, "RUNNING", attempt=execution.attempt + 1, starts=True)


def _changed_row(run: HeldRun, execution: Execution) -> ExecutionRow:
    outcome = execution.outcome
    assert outcome is not None
    error = _error_text(outcome)
    history = None
    if execution.status is Status.PENDING:
        history = to_json(
            {
                "attempt": execution.attempt,
                "durationMs": execution.duration_ms,
                "outcome": outcome.code,
                "statusCode": outcome.status_code,
                "error": error,
                **({"immediate": True} if execution.is_due_at_once else {}),
            }
        )
    return _row(
        run,
        execution,
        execution.status.value,
        response=_response_text(outcome),
        error=error,
        history=history,
        duration_ms=execution.duration_ms,
    )


def _response_text(outcome: Outcome) -> str | None:
    return None if outcome.response is None else to_json(outcome.response)


def _error_text(outcome: Outcome) -> str | None:
    """The column `error`: the code, then the text for people."""
    return None if outcome.success else f"{outcome.code}: {outcome.error}"


def _row(
    run: HeldRun,
    execution: Execution,
    status: str,
    *,
    attempt: int | None = None,
    response: str | None = None,
    error: str | None = None,
    history: str | None = None,
    starts: bool = False,
    duration_ms: int | None = None,
) -> ExecutionRow:
    return ExecutionRow(
        id=execution.id,
        trigger_id=run.id,
        status=status,
        attempt=execution.attempt if attempt is None else attempt,
        claim=run.claim,
        response=response,
        error=error,
        duration_ms=duration_ms,
        delay_seconds=execution.retry_delay_seconds if status == "PENDING" else None,
        history=history,
        starts=starts,
    )
