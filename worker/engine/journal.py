"""The journal: every change of a run's state, in a group commit under the fence.

Invariants: each transaction first locks the runs it touches, in ascending order, and drops the entries
whose (worker_id, claim) no longer match or whose run is not RUNNING, so a stale worker's late write
changes nothing. A terminal execution is never overwritten. A row that cannot be stored is isolated and
comes back to its run as RowRejected. Results outlive an outage of PostgreSQL: the journal is patient.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shared import metrics
from shared.errors import ClaimLost
from shared.json_text import to_json
from shared.postgres.arrays import array
from shared.postgres.connections import OwnedConnection
from shared.postgres.group_commit import GroupCommit
from shared.postgres.statements import PLANNED_ONCE, Batch, batch
from shared.runs import fence, give_back
from shared.runs.settle import SETTLE, Settlement
from shared.runs.settle import columns as settle_columns
from shared.threads import OwnedThread
from worker.engine.rows import ACTIONS_BY_ID, read_actions
from worker.engine.state import Execution, HeldRun, Status
from worker.engine.switch_off import switch_off
from worker.records import ActionRecord

MAX_BATCH_ROWS = 200
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_QUEUE_ROWS = 100_000
MAX_QUEUE_BYTES = 512 * 1024 * 1024
CALL_SECONDS = 10.0
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
    """The run is given back at once; its RUNNING executions become PENDING with this in their history."""

    outcome: str


@dataclass(frozen=True, slots=True)
class _Row:
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
    """One change of one run, all or nothing.

    changed: executions whose attempt has ended (their state in memory is what gets written).
    starting: executions of a later step to be committed as RUNNING; the answer says which may start.
    end: how the run leaves this worker, if it does.
    rows, details: what is written of `changed` and of a settled run. Made with the entry, in its run's own coroutine, so
    that what cannot be written fails its run alone.
    """

    run: HeldRun
    changed: tuple[Execution, ...] = ()
    starting: tuple[Execution, ...] = ()
    end: Settled | Parked | Released | None = None
    rows: list[_Row] = field(init=False)
    details: str = field(init=False, default="{}")

    def __post_init__(self) -> None:
        self.rows = [_changed_row(self.run, execution) for execution in self.changed]
        if isinstance(self.end, Settled):
            self.details = to_json(self.end.details)

    @property
    def size(self) -> int:
        """About how many bytes it holds until it is written."""
        return (
            ENTRY_BYTES * (1 + len(self.changed) + len(self.starting))
            + len(self.details)
            + 2 * sum(len(row.response or "") for row in self.rows)  # the text, and what it was made of
        )


Started = dict[UUID, ActionRecord]
"""What a written entry answers: action id → the action as it is now, for each execution that may start."""


class Journal:
    """Writes entries in batches; the future of an entry holds Started, or ClaimLost, RowRejected, Unavailable."""

    def __init__(self, database_url: str) -> None:
        self._connection = OwnedConnection(
            database_url, "journal", call_seconds=CALL_SECONDS, autocommit=True, options=PLANNED_ONCE
        )
        self._commits: GroupCommit[Entry, Started | ClaimLost] = GroupCommit(
            "journal",
            self.flush,
            max_batch_rows=MAX_BATCH_ROWS,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_queue_rows=MAX_QUEUE_ROWS,
            max_queue_bytes=MAX_QUEUE_BYTES,
            patient=True,
        )

    def start(self) -> None:
        self._commits.start()

    def stop(self, timeout_seconds: float) -> None:
        self._commits.stop(timeout_seconds)
        self._connection.close()

    @property
    def thread(self) -> OwnedThread:
        return self._commits.thread

    def submit(self, entry: Entry) -> Future[Started | ClaimLost]:
        """Queue an entry. The future's result is ClaimLost (returned, not raised) when the fence dropped it."""
        return self._commits.submit(entry, entry.size)

    async def write(self, entry: Entry) -> Started | ClaimLost:
        """The same for a coroutine. The entry is written even when the coroutine is cancelled meanwhile."""
        return await self._commits.submit_on(asyncio.get_running_loop(), entry, entry.size)

    def flush(self, entries: Sequence[Entry]) -> list[Started | ClaimLost]:
        """Write a batch in one transaction; one answer for each entry, in order."""
        with batch(self._connection) as statements:
            held = _lock(statements, entries)
            live = [entry for entry in entries if _matches(entry, held)]
            actions = _actions_to_start(statements, live)
            rows = [row for entry in live for row in _rows_of(entry, actions)]
            if rows:
                fence.write(statements, _columns(rows))
            switch_off(statements, _gone(live))
            _end_runs(statements, live)
        alive = {id(entry) for entry in live}
        metrics.claims_lost.inc(len(entries) - len(live))
        ends = Counter(entry.end.success for entry in live if isinstance(entry.end, Settled))
        for success, count in ends.items():
            metrics.runs_settled.labels(str(success).lower()).inc(count)
        return [
            {e.action_id: actions[e.action_id] for e in entry.starting if _may_start(e, actions)}
            if id(entry) in alive
            else ClaimLost("The run is held under another claim.")
            for entry in entries
        ]


def _lock(statements: Batch, entries: Sequence[Entry]) -> dict[UUID, tuple[Any, ...]]:
    """Lock the runs of a batch and return what their rows say now (FOR UPDATE reads the newest version)."""
    return fence.lock(statements, {entry.run.id for entry in entries})


def _matches(entry: Entry, held: dict[UUID, tuple[Any, ...]]) -> bool:
    row = held.get(entry.run.id)
    return row is not None and row == (entry.run.worker_id, entry.run.claim, "RUNNING")


def _actions_to_start(statements: Batch, live: Sequence[Entry]) -> dict[UUID, ActionRecord]:
    """The actions of starting executions, read anew: mending an action mends what has not started yet."""
    ids = {e.action_id for entry in live for e in entry.starting}
    if not ids:
        return {}
    return {action.id: action for action in read_actions(statements, ACTIONS_BY_ID, ids)}


def _may_start(execution: Execution, actions: dict[UUID, ActionRecord]) -> bool:
    action = actions.get(execution.action_id)
    return action is not None and action.enabled


def _rows_of(entry: Entry, actions: dict[UUID, ActionRecord]) -> list[_Row]:
    rows = list(entry.rows)
    for execution in entry.starting:
        if _may_start(execution, actions):
            rows.append(_row(entry.run, execution, "RUNNING", attempt=execution.attempt + 1, starts=True))
        else:
            rows.append(_row(entry.run, execution, "FAILED", error=not_started_error(execution, actions)))
    return rows


def not_started_error(execution: Execution, actions: dict[UUID, ActionRecord]) -> str:
    """Why an execution cannot start although its step has come."""
    if execution.action_id in actions:
        return "action_disabled: The action was disabled before its step came."
    return "action_deleted: The action was deleted before its step came."


def _changed_row(run: HeldRun, execution: Execution) -> _Row:
    outcome = execution.outcome
    assert outcome is not None
    error = None if outcome.success else f"{outcome.code}: {outcome.error}"
    history = None
    if execution.status is Status.PENDING:
        history = to_json(
            {
                "attempt": execution.attempt,
                "durationMs": execution.duration_ms,
                "outcome": outcome.code,
                "statusCode": outcome.status_code,
                "error": error,
                **({"immediate": True} if execution.immediate and execution.tries.made == 1 else {}),
            }
        )
    return _row(
        run,
        execution,
        execution.status.value,
        response=None if outcome.response is None else to_json(outcome.response),
        error=error,
        history=history,
    )


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
) -> _Row:
    return _Row(
        id=execution.id,
        trigger_id=run.id,
        status=status,
        attempt=execution.attempt if attempt is None else attempt,
        claim=run.claim,
        response=response,
        error=error,
        duration_ms=None if starts else execution.duration_ms,
        delay_seconds=execution.retry_delay_seconds if status == "PENDING" else None,
        history=history,
        starts=starts,
    )


def _columns(rows: Sequence[_Row]) -> tuple[str, ...]:
    return tuple(array(getattr(row, name) for row in rows) for name in _Row.__slots__)


def _gone(live: Sequence[Entry]) -> list[tuple[UUID, UUID]]:
    """Actions whose receiver asked never to be called again, each with the trigger that it said so to."""
    return [
        (execution.action_id, entry.run.id)
        for entry in live
        for execution in entry.changed
        if execution.outcome is not None and execution.outcome.gone
    ]


def _end_runs(statements: Batch, live: Sequence[Entry]) -> None:
    settled = [
        Settlement(entry.run.id, entry.end.success, entry.details, entry.end.status_code)
        for entry in live
        if isinstance(entry.end, Settled)
    ]
    parked = [(entry.run.id, entry.end) for entry in live if isinstance(entry.end, Parked)]
    released = [(entry.run.id, entry.end) for entry in live if isinstance(entry.end, Released)]
    if settled:
        statements.tell(SETTLE, *settle_columns(settled))
    if parked:
        give_back.park(statements, {trigger_id: end.delay_seconds for trigger_id, end in parked})
    for outcome in sorted({end.outcome for _, end in released}):
        ids = [trigger_id for trigger_id, end in released if end.outcome == outcome]
        give_back.release(statements, ids, outcome)
