"""One coroutine per trigger: what happens to it between claim and settle.

For each step: attempt its due executions together; if one must be retried, park; if one failed and stops,
fail the rest; else go on; then settle. Everything is decided from the executions (steps.py) and written
through the journal; nothing here reads the database or Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from shared.clock import database_clock
from shared.crypto import SecretBox
from shared.errors import ClaimLost, Invalid, RowRejected
from worker.actions import attempt
from worker.actions.contract import AttemptContext, Limits, Outcome
from worker.doors import Doors
from worker.engine.journal import Entry, Journal, Parked, Released, Settled, Started, not_started_error
from worker.engine.retry import next_attempt
from worker.engine.state import Execution, HeldRun, Status
from worker.engine.steps import Attempt, Park, Stop, next_move

PARK_MARGIN_SECONDS = 0.01  # a run that came back before its execution is due would only be parked again

DOOMS = {
    "callback_inactive": "The callback was switched off meanwhile. Switch it on and replay the trigger.",
    "callback_deleted": "The callback was deleted before this trigger ran.",
    "worker_lost": "Its worker process died again and again while this trigger was all that it ran.",
}
"""Reasons for which nothing of a run may be attempted any more, and what its executions say then."""

log = structlog.get_logger("run")


class LeaseLost(Exception):
    """This worker may not start anything: its heartbeat did not get through in time."""


@dataclass(frozen=True, slots=True)
class RunServices:
    """What every run of a worker uses.

    may_start: whether the local lease is held. tell: says, without waiting, that an awaited run has settled.
    """

    journal: Journal
    doors: Doors
    secrets: SecretBox
    limits: Limits
    may_start: Callable[[], bool]
    tell: Callable[[UUID], None] = lambda _trigger_id: None


async def carry(run: HeldRun, services: RunServices) -> None:
    """Carry a claimed run to its end here: settled or parked. Raises ClaimLost or LeaseLost when it is not ours."""
    changed: list[Execution] = []
    if run.doom is not None:
        changed = _fail_open(run, run.doom, DOOMS[run.doom])
    while True:
        move = next_move(run.executions, database_clock.now())
        match move:
            case Attempt(executions):
                waiting = tuple(e for e in executions if e.status is Status.PENDING)
                if waiting:
                    if await _start(run, waiting, changed, services):
                        changed = []
                else:
                    changed += await _attempt_together(run, executions, services)
            case Stop(executions):
                changed += _fail(
                    executions, "earlier_step_failed", "An earlier step failed; this one did not run."
                )
            case _:
                end = _end(run, move)
                if await _write(services.journal, run, changed=tuple(changed), end=end) is not None:
                    if run.awaited and isinstance(end, Settled):
                        services.tell(run.id)
                    return


async def release(run: HeldRun, services: RunServices, outcome: str) -> None:
    """Give a run back: what was RUNNING becomes PENDING, its next attempt has a new number."""
    await _write(services.journal, run, end=Released(outcome))


async def fail(run: HeldRun, services: RunServices, code: str, error: str) -> None:
    """Settle a run as FAILED whatever it was doing."""
    _fail_open(run, code, error)
    while True:
        # also what ended in memory but could not be written; what is terminal in PostgreSQL stays as it is
        changed = tuple(execution for execution in run.executions if execution.outcome is not None)
        end = Settled(success=False, status_code=None, details=_details(run, code))
        if await _write(services.journal, run, changed=changed, end=end) is not None:
            return  # else an outcome was rewritten as unstorable_response, which can be stored


async def _start(
    run: HeldRun, waiting: tuple[Execution, ...], changed: list[Execution], services: RunServices
) -> bool:
    """Commit the executions of a later step as RUNNING before their side effects, with fresh configs.

    False: an outcome in `changed` was rewritten and nothing was written; decide anew.
    """
    started = await _write(services.journal, run, changed=tuple(changed), starting=waiting)
    if started is None:
        return False
    for execution in waiting:
        action = started.get(execution.action_id)
        if action is not None:
            execution.action = action
            execution.status = Status.RUNNING
            execution.attempt += 1
        else:
            known = {} if execution.action is None else {execution.action_id: execution.action}
            code, error = not_started_error(execution, known).split(": ", 1)
            execution.finish(Outcome.permanent(code, error))
    return True


async def _attempt_together(
    run: HeldRun, executions: tuple[Execution, ...], services: RunServices
) -> list[Execution]:
    """Attempt these at the same time. Each end is journaled as it comes; the last is left to go with what follows."""
    open_count = len(executions)
    last: list[Execution] = []

    async def one(execution: Execution) -> None:
        nonlocal open_count
        await _attempt(run, execution, services)
        while execution.is_due_at_once:
            await _write(services.journal, run, changed=(execution,))
            if execution.is_due_at_once:
                await _start(run, (execution,), [], services)
            if execution.status is Status.RUNNING:
                await _attempt(run, execution, services)
        open_count -= 1
        if not open_count:
            last.append(execution)
            return
        while await _write(services.journal, run, changed=(execution,)) is None:
            pass  # its outcome was rewritten as unstorable_response, which can be stored

    if len(executions) == 1:
        await one(executions[0])
        return last
    ends = await asyncio.gather(*(one(execution) for execution in executions), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return last


async def _attempt(run: HeldRun, execution: Execution, services: RunServices) -> None:
    """Make one attempt and note in memory how it ended."""
    assert execution.action is not None
    assert run.callback is not None
    if not services.may_start():
        raise LeaseLost
    context = AttemptContext(
        trigger=run.trigger,
        callback=run.callback,
        execution_id=execution.id,
        attempt=execution.attempt,
        sent_at=database_clock.now_ms() // 1000,
        secrets=services.secrets,
        limits=services.limits,
    )
    started = time.monotonic()
    outcome = await attempt(execution.action, context, services.doors)
    duration_ms = int((time.monotonic() - started) * 1000)
    _conclude(execution, outcome, duration_ms)
    _log_attempt(run, execution, outcome, duration_ms)


def _conclude(execution: Execution, outcome: Outcome, duration_ms: int) -> None:
    assert execution.action is not None
    try:
        again = next_attempt(execution.action, execution.tries, outcome, duration_ms)
    except Invalid:  # the row's `retry` was changed behind the API's back: no retry, the outcome stands
        again = None
    if again is None:
        execution.finish(outcome, duration_ms)
    else:
        execution.retry(outcome, duration_ms, again, database_clock.now())


def _log_attempt(run: HeldRun, execution: Execution, outcome: Outcome, duration_ms: int) -> None:
    write = log.debug if outcome.success else log.info
    write(
        "attempt_ended",
        trigger=run.id,
        execution=execution.id,
        action=execution.action_id,
        type=execution.type,
        attempt=execution.attempt,
        status=execution.status.value,
        code=outcome.code,
        status_code=outcome.status_code,
        duration_ms=duration_ms,
    )


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


async def _write(
    journal: Journal,
    run: HeldRun,
    changed: tuple[Execution, ...] = (),
    starting: tuple[Execution, ...] = (),
    end: Settled | Parked | Released | None = None,
) -> Started | None:
    """Write a change of a run and wait until it is committed.

    None: something in it could not be stored; the outcomes it carried are now FAILED
    `unstorable_response` in memory, and the caller decides anew. Raises ClaimLost.
    """
    try:
        entry = Entry(run, changed, starting, end)
    except Exception as error:  # noqa: BLE001 - an action's kind made it: whatever it is, it cannot be written
        _unstorable(changed, error)
        return None
    try:
        answer = await journal.write(entry)
    except RowRejected as error:
        _unstorable(changed, error)
        return None
    if isinstance(answer, ClaimLost):
        raise answer
    return answer


def _unstorable(changed: tuple[Execution, ...], error: Exception) -> None:
    """Rewrite these outcomes as FAILED `unstorable_response`; raises the error where that has been done."""
    if not any(e.outcome is not None and e.outcome.code != "unstorable_response" for e in changed):
        raise error
    log.warning("outcome_unstorable", error=type(error).__name__)
    for execution in changed:
        execution.finish(
            Outcome.permanent("unstorable_response", "The receiver's answer cannot be stored."),
            execution.duration_ms,
        )
