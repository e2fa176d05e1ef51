"""What was claimed, as runs in memory: each with its trigger, its callback, its executions and
their actions as they are now.

Invariant: the steps of a run are fixed at its first claim.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from shared.action_types.steps import assign_steps
from shared.ids import execution_id
from shared.postgres.statements import Transaction
from worker.engine.rows import (
    ACTIONS_OF_CALLBACKS,
    read_actions,
    read_answers,
    read_callbacks,
    read_executions,
)
from worker.engine.state import Execution, HeldRun, Status
from worker.records import ActionRecord, TriggerRecord

# When so many workers have died while a run was all they held, it is the run that kills them.
MAX_LOSSES_ALONE = 3


def assemble(
    statements: Transaction, claimed: Sequence[Any], worker_id: UUID
) -> tuple[list[HeldRun], datetime]:
    """Read everything else that the claimed runs need and build them in memory."""
    rows = [_ClaimedRow(*row) for row in claimed]
    now = rows[0].now
    callback_ids = {row.callback_id for row in rows}
    callbacks = read_callbacks(statements, callback_ids)
    actions = _by_callback(read_actions(statements, ACTIONS_OF_CALLBACKS, callback_ids))
    with_executions = [row.trigger_id for row in rows if row.may_have_executions]
    executions = read_executions(statements, with_executions) if with_executions else {}
    runs = []
    for row in rows:
        run = HeldRun(
            trigger=row.trigger(),
            callback=callbacks.get(row.callback_id),
            worker_id=worker_id,
            claim=row.claim,
            losses=row.losses,
            executions=executions.get(row.trigger_id, []),
            doom="worker_lost" if row.losses_alone >= MAX_LOSSES_ALONE else None,
            awaited=row.awaited,
        )
        _equip(run, actions.get(row.callback_id, []))
        runs.append(run)
    _read_back(statements, runs)
    return runs, now


def _read_back(statements: Transaction, runs: Sequence[HeldRun]) -> None:
    """Give runs what their earlier steps were answered, where a later one reads it."""
    wanted = {e.id: (run, e) for run in runs for e in run.executions if e.ended and run.is_read(e)}
    if not wanted:
        return
    answers = read_answers(statements, (run.id for run, _ in wanted.values()), wanted)
    for answered, text in answers.items():
        run, execution = wanted[answered]
        run.keep_answer(execution, json.loads(text), len(text))


class _ClaimedRow(NamedTuple):
    """One row of shared/runs/claim.py: a run as it is now claimed, and its trigger."""

    trigger_id: UUID
    callback_id: UUID
    claim: int
    losses: int
    losses_alone: int
    awaited: bool
    now: datetime
    has_trigger: bool
    user_id: UUID
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: memoryview
    received_at: datetime
    may_have_executions: bool

    def trigger(self) -> TriggerRecord:
        """The trigger; raises LookupError when its row is gone, which only tampering can do."""
        if not self.has_trigger:
            raise LookupError(f"trigger {self.trigger_id} has no row")
        return TriggerRecord(
            id=self.trigger_id,
            callback_id=self.callback_id,
            user_id=self.user_id,
            method=self.method,
            path=self.path,
            query=self.query,
            headers=self.headers,
            content_type=self.content_type,
            body=bytes(self.body),
            received_at=self.received_at,
        )


def _by_callback(actions: Sequence[ActionRecord]) -> dict[UUID, list[ActionRecord]]:
    found: dict[UUID, list[ActionRecord]] = {}
    for action in actions:
        found.setdefault(action.callback_id, []).append(action)
    return found


def _equip(run: HeldRun, actions: Sequence[ActionRecord]) -> None:
    """Give a run its executions (at the first claim) and these their actions as they are now.

    The steps are fixed at the first claim; a later edit of order or parallel does not move them.
    """
    if run.callback is None:
        run.doom = "callback_deleted"
    elif not run.callback.active:
        run.doom = run.doom or "callback_inactive"
    if run.callback is not None and not run.executions and run.claim == 1:
        # also when nothing of it will run: should this worker die, another must find what to do
        run.executions = _first_executions(run.trigger, actions)
    by_id = {action.id: action for action in actions}
    for execution in run.executions:
        execution.action = by_id.get(execution.action_id)


def _first_executions(trigger: TriggerRecord, actions: Sequence[ActionRecord]) -> list[Execution]:
    return [
        Execution(
            id=execution_id(trigger.id, action.rank),
            action_id=action.id,
            type=action.type,
            step=step,
            status=Status.NEW,
            attempt=0,
            action=action,
        )
        for action, step in assign_steps([a for a in actions if a.enabled])
    ]
