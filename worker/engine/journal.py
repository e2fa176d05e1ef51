"""The journal: every change of a run's state, in a group commit under the fence.

Invariants:

- Each transaction first locks the runs it touches, in ascending order, and drops the entries whose
  (worker_id, claim) no longer match or whose run is not RUNNING, so a stale worker's late write
  changes nothing.
- A terminal execution is never overwritten.
- What was prepared from an action that has changed since is not begun.
- A row that cannot be stored is isolated and comes back to its run as RowRejected.
- Results outlive an outage of PostgreSQL: the journal is patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from shared import metrics
from shared.errors import ClaimLost
from shared.postgres.arrays import array
from shared.postgres.connections import OwnedConnection
from shared.postgres.group_commit import GroupCommit
from shared.postgres.statements import PLANNED_ONCE, Transaction, transaction
from shared.runs import fence, give_back
from shared.runs.settle import SETTLE, Settlement
from shared.runs.settle import columns as settle_columns
from shared.threads import OwnedThread
from worker.actions.contract import Outcome
from worker.engine.entry import Entry, ExecutionRow, Parked, Released, Settled, ended_row
from worker.engine.rows import ACTIONS_BY_ID, read_actions
from worker.engine.state import Execution
from worker.engine.switch_off import switch_off
from worker.records import ActionRecord

MAX_BATCH_ROWS = 200

# On its way to PostgreSQL a batch is in memory about five times.
MAX_BATCH_BYTES = 2 * 1024 * 1024
MAX_QUEUE_ROWS = 100_000
MAX_QUEUE_BYTES = 512 * 1024 * 1024
CALL_SECONDS = 10.0

log = structlog.get_logger("journal")

# What became of an execution whose step has come. None: it is written as it was prepared. A record:
# this is its action now, and nothing was written of it. An outcome: it cannot start; so it is
# written.
Fate = ActionRecord | Outcome | None

# What a written entry answers, by action id, for each execution in its `starting`.
Fates = dict[UUID, Fate]


class Journal:
    """Writes entries in batches.

    An entry's future holds Fates, or ClaimLost, RowRejected, Unavailable.
    """

    def __init__(self, database_url: str) -> None:
        self._connection = OwnedConnection(
            database_url, "journal", call_seconds=CALL_SECONDS, autocommit=True, settings=PLANNED_ONCE
        )
        self._commits: GroupCommit[Entry, Fates | ClaimLost] = GroupCommit(
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
        if self._commits.stop(timeout_seconds):
            self._connection.close()

    @property
    def thread(self) -> OwnedThread:
        return self._commits.thread

    async def write(self, entry: Entry) -> Fates | ClaimLost:
        """Write an entry, even when the coroutine is cancelled meanwhile.

        ClaimLost (returned, not raised): the fence dropped it.
        """
        return await self._commits.submit(entry, entry.size)

    def flush(self, entries: Sequence[Entry]) -> list[Fates | ClaimLost]:
        """Write a batch in one transaction; one answer for each entry, in order."""
        try:
            with transaction(self._connection) as statements:
                live, answers = _write(statements, entries)
        except BaseException:
            for entry in entries:
                entry.was_tried = True
            raise
        metrics.claims_lost.inc(len(entries) - len(live))
        ends = Counter(entry.end.success for entry in live if isinstance(entry.end, Settled))
        for success, count in ends.items():
            metrics.runs_settled.labels(str(success).lower()).inc(count)
        answered = {id(entry): fates for entry, fates in zip(live, answers, strict=True)}
        return [
            answered[id(entry)]
            if id(entry) in answered
            else ClaimLost("The run is held under another claim.")
            for entry in entries
        ]


def _write(statements: Transaction, entries: Sequence[Entry]) -> tuple[list[Entry], list[Fates]]:
    """Write a batch. Returns the entries that count, and what they answer."""
    held = _lock(statements, entries)
    live = [entry for entry in entries if _matches(entry, held)]
    actions = _actions_now(statements, live)
    ended = _ended_before(statements, live)
    answers = [_fates(entry, actions) | ended.get(entry.run.id, {}) for entry in live]
    rows = [row for entry, fates in zip(live, answers, strict=True) for row in _rows_of(entry, fates)]
    if rows:
        fence.write(statements, _columns(rows))
    switch_off(statements, _gone(live))
    _end_runs(statements, live)
    return live, answers


def _ended_before(statements: Transaction, live: Sequence[Entry]) -> dict[UUID, Fates]:
    """By run, what was to start and has ended: an earlier writing came through unheard."""
    tried = {entry.run.id for entry in live if entry.was_tried and entry.starting}
    found: dict[UUID, Fates] = {}
    if tried:
        for trigger_id, action_id, success, code, error in fence.ended(statements, tried):
            outcome = Outcome(success=success, code=code or "ok", error=error)
            found.setdefault(trigger_id, {})[action_id] = outcome
    return found


def _lock(statements: Transaction, entries: Sequence[Entry]) -> dict[UUID, tuple[Any, ...]]:
    """Lock the runs of a batch and return what their rows say now.

    FOR UPDATE reads the newest version.
    """
    return fence.lock(statements, {entry.run.id for entry in entries})


def _matches(entry: Entry, held: dict[UUID, tuple[Any, ...]]) -> bool:
    row = held.get(entry.run.id)
    return row is not None and row == (entry.run.worker_id, entry.run.claim, "RUNNING")


def _actions_now(statements: Transaction, live: Sequence[Entry]) -> dict[UUID, ActionRecord]:
    """The actions are read anew: fixing an action fixes what has not started yet."""
    ids = {e.action_id for entry in live for e in entry.starting}
    return {action.id: action for action in read_actions(statements, ACTIONS_BY_ID, ids)} if ids else {}


def _fates(entry: Entry, actions: dict[UUID, ActionRecord]) -> Fates:
    return {e.action_id: _fate(e, actions.get(e.action_id)) for e in entry.starting}


def _fate(execution: Execution, now: ActionRecord | None) -> Fate:
    if now is None:
        return Outcome.permanent("action_deleted", "The action was deleted before its step came.")
    if not now.enabled:
        return Outcome.permanent("action_disabled", "The action was disabled before its step came.")
    return None if now == execution.action else now


def _rows_of(entry: Entry, fates: Fates) -> list[ExecutionRow]:
    rows = list(entry.rows)
    for execution in entry.starting:
        fate = fates[execution.action_id]
        if fate is None:
            rows.append(entry.first_rows[execution.action_id])
        elif isinstance(fate, Outcome):
            rows.append(ended_row(entry.run, execution, fate))
    return rows


def _columns(rows: Sequence[ExecutionRow]) -> tuple[str, ...]:
    return tuple(array(getattr(row, name) for row in rows) for name in ExecutionRow.__slots__)


def _gone(live: Sequence[Entry]) -> list[tuple[UUID, UUID]]:
    """Actions whose receiver asked never to be called again, each with the trigger concerned."""
    return [
        (execution.action_id, entry.run.id)
        for entry in live
        for execution in entry.changed
        if execution.outcome is not None and execution.outcome.gone
    ]


def _end_runs(statements: Transaction, live: Sequence[Entry]) -> None:
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
