"""The attempts of one step: prepare → gate → commit RUNNING → perform → classify.

Invariants: an attempt is committed as RUNNING, with its number, before its side effect. What
prepare() ends, and what is not to start now, spends no attempt. What is performed was prepared from
the action as it was at that commit. What a claim has started is prepared right before it is
performed. Each end is journaled as it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from shared.clock import database_clock
from shared.errors import Invalid
from worker.actions import perform, prepare
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome, Prepared
from worker.engine.journal import write_change
from worker.engine.retry import next_attempt
from worker.engine.services import RunServices
from worker.engine.state import Execution, HeldRun, Status

log = structlog.get_logger("run")


class LeaseLost(Exception):
    """This worker may not start anything: its heartbeat did not get through in time."""


async def start(
    run: HeldRun, waiting: tuple[Execution, ...], changed: list[Execution], services: RunServices
) -> list[Execution]:
    """Commit as RUNNING, together with `changed`, those of a step that wait and may start.

    Returns what is still to be written: nothing once an entry was written; else `changed` and those
    that preparing has ended.
    """
    unwritten = changed + await _prepare_all(run, waiting, services)
    # The gate comes here: a throttle or a breaker says of each that is prepared whether it may
    # start now. If not, the run is parked until then, without an attempt.
    ready = tuple(execution for execution in waiting if not execution.ended)
    if not ready:
        return unwritten
    fates = await write_change(services.journal, run, changed=tuple(unwritten), starting=ready)
    if fates is None:  # an outcome was rewritten and nothing was written: decide anew
        return unwritten
    for execution in ready:
        fate = fates[execution.action_id]
        if isinstance(fate, Outcome):
            execution.finish(fate)
        else:
            execution.begin(fate)
    return []


async def _prepare_all(run: HeldRun, waiting: Sequence[Execution], services: RunServices) -> list[Execution]:
    """Prepare these. Returns those that this has ended.

    None is ended by what its action was when it was claimed: one that has been fixed since is
    prepared as it is now.
    """
    ended: list[Execution] = []
    while outcomes := {e: end for e in waiting if (end := _prepare(run, e, services)) is not None}:
        fates = await write_change(services.journal, run, asking=tuple(outcomes))
        assert fates is not None  # nothing was written that could be refused
        waiting = []
        for execution, outcome in outcomes.items():
            fate = fates[execution.action_id]
            if isinstance(fate, Outcome) or fate == execution.action:
                execution.finish(fate if isinstance(fate, Outcome) else outcome)
                ended.append(execution)
            else:
                execution.action = fate
                waiting.append(execution)
    return ended


def _prepare(run: HeldRun, execution: Execution, services: RunServices) -> Outcome | None:
    """Prepare one; the outcome, if that ends it."""
    if execution.action is None:
        return None  # the journal will say that it is gone
    prepared = prepare(execution.action, _context(run, execution, services))
    if isinstance(prepared, Outcome):
        return prepared
    execution.prepared = prepared
    return None


def _context(run: HeldRun, execution: Execution, services: RunServices) -> ExecutionContext:
    assert run.callback is not None
    return ExecutionContext(run.trigger, run.callback, execution.id, services.secrets, services.limits)


async def attempt_together(
    run: HeldRun, executions: tuple[Execution, ...], services: RunServices
) -> list[Execution]:
    """Attempt these at the same time, all of them RUNNING.

    Each end is journaled as it comes; the last is returned, to be written with what follows.
    """
    open_count = len(executions)
    last: list[Execution] = []

    async def one(execution: Execution) -> None:
        nonlocal open_count
        await _attempt(run, execution, services)
        while execution.is_due_at_once:
            await write_change(services.journal, run, changed=(execution,))
            if execution.is_due_at_once:
                await start(run, (execution,), [], services)
            if execution.status is Status.RUNNING:
                await _attempt(run, execution, services)
        open_count -= 1
        if not open_count:
            last.append(execution)
            return
        while await write_change(services.journal, run, changed=(execution,)) is None:
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
    if not services.may_start():
        raise LeaseLost
    started = time.monotonic()
    prepared = execution.prepared or prepare(execution.action, _context(run, execution, services))
    if isinstance(prepared, Prepared):
        stamp = AttemptStamp(execution.attempt, database_clock.now_ms() // 1000)
        outcome = await perform(prepared, stamp, services.doors)
    else:
        outcome = prepared
    duration_ms = int((time.monotonic() - started) * 1000)
    _conclude(execution, outcome, duration_ms)
    _log_attempt(run, execution, outcome, duration_ms)


def _conclude(execution: Execution, outcome: Outcome, duration_ms: int) -> None:
    assert execution.action is not None
    try:
        again = next_attempt(execution.action, execution.tries, outcome, duration_ms)
    except Invalid:
        # the row's `retry` was changed behind the API's back: no retry, the outcome stands
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
