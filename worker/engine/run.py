"""One coroutine per trigger: what happens to it between claim and settle.

For each step: attempt its due executions together; if one must be retried later, park; if one
failed and stops, fail the rest; else go on; then settle. Everything is decided from the executions
(steps.py) and written through the journal; nothing here reads the database or Redis.
"""

from __future__ import annotations

from typing import Any

from shared.clock import database_clock
from worker.actions.contract import Outcome
from worker.engine.change import write_change
from worker.engine.entry import Parked, Released, Settled
from worker.engine.services import RunServices
from worker.engine.state import Execution, HeldRun
from worker.engine.steps import Attempt, Park, Stop, next_move
from worker.engine.together import carry_step

# A run that came back before its execution is due would only be parked again.
PARK_MARGIN_SECONDS = 0.01

# Reasons for which nothing of a run may be attempted any more, and what its executions say then.
DOOMS = {
    "callback_inactive": "The callback was switched off meanwhile. Switch it on and replay the trigger.",
    "callback_deleted": "The callback was deleted before this trigger ran.",
    "worker_lost": "Its worker process died again and again while this trigger was all that it ran.",
}


async def carry(run: HeldRun, services: RunServices) -> None:
    """Carry a claimed run to its end here: settled or parked.

    Raises ClaimLost or LeaseLost when it is not ours.
    """
    changed: list[Execution] = []
    if run.doom is not None:
        changed = _fail_open(run, run.doom, DOOMS[run.doom])
    while True:
        move = next_move(run.executions, database_clock.now())
        match move:
            case Attempt(of_step=of_step):
                changed = await carry_step(run, of_step, changed, services)
            case Stop(executions):
                changed += _fail(
                    executions, "earlier_step_failed", "An earlier step failed; this one did not run."
                )
            case _:
                end = _end(run, move)
                if await write_change(run, services, changed=tuple(changed), end=end) is not None:
                    if run.awaited and isinstance(end, Settled):
                        services.tell(run.id)
                    return


async def release(run: HeldRun, services: RunServices, outcome: str) -> None:
    """Give a run back: what was RUNNING becomes PENDING, its next attempt has a new number."""
    await write_change(run, services, end=Released(outcome))


async def fail(run: HeldRun, services: RunServices, code: str, error: str) -> None:
    """Settle a run as FAILED whatever it was doing."""
    _fail_open(run, code, error)
    while True:
        # also what ended in memory but could not be written; what is terminal in PostgreSQL stays
        # as it is
        changed = tuple(execution for execution in run.executions if execution.outcome is not None)
        end = Settled(success=False, status_code=None, details=_details(run, code))
        if await write_change(run, services, changed=changed, end=end) is not None:
            return  # else an outcome was rewritten as unstorable_response, which can be stored


def _end(run: HeldRun, move: Any) -> Settled | Parked:
    if isinstance(move, Park):
        remaining = (move.until - database_clock.now()).total_seconds()
        return Parked(delay_seconds=max(remaining, 0.0) + PARK_MARGIN_SECONDS)
    return Settled(
        success=move.success and run.doom is None,
        status_code=_status_code(run),
        details=_details(run, run.doom),
    )


def _status_code(run: HeldRun) -> int | None:
    """The status code of the primary action, else of the last HTTP action."""
    ended = [e for e in run.executions if e.status_code is not None]
    primary = [e for e in ended if e.action is not None and e.action.is_primary]
    return (primary or ended)[-1].status_code if ended else None


def _details(run: HeldRun, reason: str | None) -> dict[str, Any]:
    if reason is None and not run.executions:
        reason = "no_enabled_action"
    return {
        "reason": reason,
        "steps": [
            {
                "actionId": str(e.action_id),
                "type": e.type,
                "step": e.step,
                "status": e.status.value,
                "attempt": e.attempt,
                "code": None if e.outcome is None else e.outcome.code,
            }
            for e in run.executions
        ],
    }


def _fail(executions: tuple[Execution, ...], code: str, error: str) -> list[Execution]:
    for execution in executions:
        execution.finish(Outcome.permanent(code, error))
    return list(executions)


def _fail_open(run: HeldRun, code: str, error: str) -> list[Execution]:
    return _fail(tuple(e for e in run.executions if not e.ended), code, error)
