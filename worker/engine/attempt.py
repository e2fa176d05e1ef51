"""The attempts of one execution: prepare → gate → commit RUNNING → perform → classify.

Invariants:

- An attempt is committed as RUNNING, with its number, before its side effect.
- What is prepared before that commit, and ended there, spends no attempt. Nor does what is not to
  start now.
- What is committed was prepared from the action as it is at that commit.

What a claim has started is prepared right before it is performed.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from shared.clock import database_clock
from shared.errors import Invalid
from worker.actions import perform
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome, Prepared
from worker.engine.change import write_change
from worker.engine.journal import Fate
from worker.engine.retry import next_attempt
from worker.engine.services import RunServices
from worker.engine.state import SMALL_RESPONSE_BYTES, Execution, HeldRun, Status
from worker.records import ActionRecord

log = structlog.get_logger("run")


class LeaseLost(Exception):
    """This worker may not start anything: its heartbeat did not get through in time."""


async def start(
    run: HeldRun, waiting: tuple[Execution, ...], changed: list[Execution], services: RunServices
) -> list[Execution]:
    """Begin those of a step that wait: each is committed as RUNNING, or ended by preparing it.

    `changed` is written with that. Returns what is still to be written: `changed`, if something
    could not be stored, else nothing. Who waits still is to be started again: its action was
    changed meanwhile.
    """
    if not set(changed).isdisjoint(waiting):  # an attempt ends in the history before the next begins
        if await write_change(run, services, changed=tuple(changed)) is None:
            return changed
        changed = []
    await _prepare(run, waiting, services)
    # The gate comes here: a throttle or a breaker says of each that is prepared whether it may
    # start now. If not, the run is parked until then, without an attempt.
    fates = await write_change(run, services, changed=tuple(changed), starting=waiting)
    if fates is None:
        return changed
    for execution in waiting:
        _begin(execution, fates[execution.action_id])
    return []


async def _prepare(run: HeldRun, waiting: tuple[Execution, ...], services: RunServices) -> None:
    """Make ready what is not, side by side: what is rendered elsewhere goes there together."""
    unready = [e for e in waiting if e.prepared is None and e.action is not None]
    if len(unready) == 1:
        (execution,) = unready
        execution.prepared = await _prepared(run, execution, services)
    elif unready:
        found = await asyncio.gather(*(_prepared(run, e, services) for e in unready))
        for execution, prepared in zip(unready, found, strict=True):
            execution.prepared = prepared


async def _prepared(
    run: HeldRun, execution: Execution, services: RunServices, *, is_decided: bool = False
) -> Prepared | Outcome:
    assert execution.action is not None
    context = _context(run, execution, services)
    return await services.preparing.prepare(execution.action, context, is_decided=is_decided)


def _begin(execution: Execution, fate: Fate) -> None:
    if isinstance(fate, ActionRecord):
        execution.change(fate)
    elif isinstance(fate, Outcome):
        execution.finish(fate)
    elif isinstance(execution.prepared, Outcome):
        execution.finish(execution.prepared)
    else:
        execution.begin()


def _context(run: HeldRun, execution: Execution, services: RunServices) -> ExecutionContext:
    assert run.callback is not None
    answers = run.answers_for(execution)
    return ExecutionContext(
        run.trigger,
        run.callback,
        execution.id,
        services.secrets,
        services.limits,
        answers,
        None if answers else run.scope,
    )


async def attempt_until_later(run: HeldRun, execution: Execution, services: RunServices) -> bool:
    """Attempt one that is RUNNING, and again as long as its retry comes at once.

    Returns whether its end is written: it is if the journal or preparing has ended it.
    """
    await _attempt(run, execution, services)
    while execution.is_due_at_once:
        await write_end(run, execution, services)
        while execution.status is Status.PENDING:
            await start(run, (execution,), [], services)
        if execution.ended:
            return True
        await _attempt(run, execution, services)
    return False


async def write_end(run: HeldRun, execution: Execution, services: RunServices) -> None:
    """Write how an attempt has ended."""
    while await write_change(run, services, changed=(execution,)) is None:
        pass  # how it ended was replaced by what can be stored


async def _attempt(run: HeldRun, execution: Execution, services: RunServices) -> None:
    """Make one attempt and note in memory how it ended."""
    assert execution.action is not None
    if not services.may_start():
        raise LeaseLost
    started = time.monotonic()
    prepared = execution.prepared or await _prepared(run, execution, services, is_decided=True)
    if isinstance(prepared, Outcome):
        execution.finish(prepared, _ms_since(started))
    else:
        if execution.action.credential is not None:
            services.uses.note(execution.action.credential.id)
        stamp = AttemptStamp(execution.attempt, database_clock.now_ms() // 1000)
        outcome = await perform(prepared, stamp, services.doors)
        if outcome.response_bytes > SMALL_RESPONSE_BYTES:
            services.room.grow(run.id, outcome.response_bytes)
        _conclude(execution, outcome, _ms_since(started))
    _log_attempt(run, execution)


def _ms_since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


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


def _log_attempt(run: HeldRun, execution: Execution) -> None:
    outcome = execution.outcome
    assert outcome is not None
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
        duration_ms=execution.duration_ms,
    )
