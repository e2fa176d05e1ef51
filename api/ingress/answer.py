"""What the caller of a trigger URL is told.

202 with the trigger's id once it is committed. 200 with its outcome when the caller waited for it
(`Prefer: wait`, RFC 7240) or the call was answered from the cache, and the trigger has settled.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any
from uuid import UUID

import orjson
import structlog

from api.awaited import Answer
from api.idempotency import REPLAYED
from api.ingress.outcomes import Outcomes, TriggerOutcome
from api.ingress.record import NewTrigger, Recorded
from api.urls import Urls

LOOK_SECONDS = 2.0

log = structlog.get_logger("ingress")

PENDING = TriggerOutcome("PENDING")
UNKNOWN = TriggerOutcome()

Headers = list[tuple[str, str]]


async def answer(
    trigger: NewTrigger, recorded: Recorded, waiting: Future[TriggerOutcome] | None, outcomes: Outcomes
) -> Answer:
    """The answer to an accepted call.

    waiting: the end of the trigger, where its caller waits for that.
    """
    if recorded.repeated:
        if waiting is not None:
            waiting.cancel()
        return await _of_earlier(trigger, recorded.trigger_id, outcomes)
    headers = [("x-cache", "MISS")] if trigger.may_hit_cache else []
    if waiting is None:
        return _told(trigger, recorded.trigger_id, PENDING, headers)
    return await _of_its_end(trigger, recorded.trigger_id, waiting, outcomes, headers)


async def _of_earlier(trigger: NewTrigger, earlier_id: UUID, outcomes: Outcomes) -> Answer:
    """The call is that of an earlier one: tell how far that is, or wait for it."""
    headers = [("x-cache", "HIT")] if trigger.may_hit_cache else [REPLAYED]
    seconds = trigger.wait_seconds
    waiting = outcomes.wait(earlier_id, trigger.callback.user_id, seconds) if seconds else None
    try:
        known = await _ask(outcomes, earlier_id, UNKNOWN)
        if waiting is not None and not known.settled:
            return await _of_its_end(trigger, earlier_id, waiting, outcomes, headers)
    finally:
        if waiting is not None:
            waiting.cancel()  # its place is free again
    return _told(trigger, earlier_id, known, headers, tell=trigger.may_hit_cache or seconds > 0)


async def _of_its_end(
    trigger: NewTrigger,
    trigger_id: UUID,
    waiting: Future[TriggerOutcome],
    outcomes: Outcomes,
    headers: Headers,
) -> Answer:
    """Wait for the end of a trigger as long as the caller would, and is there."""
    applied = [*headers, ("preference-applied", f"wait={trigger.wait_seconds}")]
    ended, caller = asyncio.wrap_future(waiting), trigger.call.caller
    awaited: set[asyncio.Future[Any]] = {ended}
    if caller is not None:
        awaited.add(asyncio.ensure_future(caller.gone()))
    try:
        over, _ = await asyncio.wait(
            awaited, timeout=trigger.wait_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if ended.done():
            known = ended.result()
        elif over:
            known = PENDING  # it has hung up: nobody hears it
        else:
            known = await _ask(outcomes, trigger_id, PENDING)
    finally:
        for one in awaited:
            one.cancel()  # its place is free again
    return _told(trigger, trigger_id, known, applied, tell=True)


async def _ask(outcomes: Outcomes, trigger_id: UUID, otherwise: TriggerOutcome) -> TriggerOutcome:
    """How far a trigger is. Not knowing is no reason to refuse a call that is accepted."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await asyncio.wrap_future(outcomes.ask(trigger_id))
    except Exception as error:  # noqa: BLE001 - the call is accepted, whatever this is
        log.warning("outcome_not_read", error=type(error).__name__)
        return otherwise


def _told(
    trigger: NewTrigger, trigger_id: UUID, outcome: TriggerOutcome, headers: Headers, *, tell: bool = False
) -> Answer:
    body: dict[str, Any] = {
        "triggerId": trigger_id,
        "status": outcome.status or "PENDING",  # not known just now
        "statusUrl": Urls.status(trigger.call.trigger_url, trigger_id),
    }
    told = tell and outcome.settled
    if told:
        body |= {"finishedAt": outcome.finished_at, "executions": outcome.executions}
    named = [("content-type", "application/json"), ("x-request-id", trigger.call.request_id), *headers]
    return 200 if told else 202, named, orjson.dumps(body, option=orjson.OPT_UTC_Z)
