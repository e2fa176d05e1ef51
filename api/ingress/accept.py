"""What happens to a call of a trigger URL: resolve, challenge, verify, limit, deduplicate, record,
answer.

Invariants:

- Everything that may refuse a call comes before it is recorded, and its answer comes after the
  commit.
- The steps up to the commit share one deadline.
- Nothing here holds a thread, and what a step waits for is awaited.
"""

from __future__ import annotations

from concurrent.futures import Future

from api.awaited import Answer
from api.ingress.answer import answer
from api.ingress.call import Call, preferred_wait_seconds
from api.ingress.deduplicate import key_of_call
from api.ingress.outcomes import TriggerOutcome
from api.ingress.parts import IngressParts
from api.ingress.record import NewTrigger, Recorded, Recorder
from api.ingress.resolve import must_be_active
from api.problems import translate
from shared import metrics
from shared.errors import PointsmanError, Unavailable
from shared.ids import new_id


async def accept(call: Call, own: IngressParts) -> Answer:
    """Record a call as a trigger and say so.

    Raises a PointsmanError where nothing was recorded, or perhaps nothing.
    """
    try:
        async with own.deadline.limit():
            callback = await own.resolver.find(call.address)
            must_be_active(callback)
            # A provider's unsigned challenge is answered here: it is no trigger.
            # Here the call is verified, if the callback says how.
            # A signed challenge is answered here.
            # Here the limits of the callback and its user's plan are awaited: one call of Redis for
            # the requests of a moment.
            key = await key_of_call(call, callback, own.settings.idempotency_seconds)
            wait_seconds = preferred_wait_seconds(call.prefer, callback.timeout_ms)
            trigger = NewTrigger(new_id(), callback, call, key, wait_seconds)
            # before the commit, since the trigger may settle right after it
            waiting = own.outcomes.wait(trigger.id, callback.user_id, wait_seconds) if wait_seconds else None
            recorded = await _record(own.recorder, trigger, waiting)
    except Exception as error:
        refused = _too_late() if isinstance(error, TimeoutError) else translate(error, call.path)
        metrics.triggers_refused.labels(refused.code).inc()
        if refused is error:
            raise
        raise refused from error
    return await answer(trigger, recorded, waiting, own.outcomes)


async def _record(
    recorder: Recorder, trigger: NewTrigger, waiting: Future[TriggerOutcome] | None
) -> Recorded:
    """Wait until it is committed. Who is refused waits for no outcome."""
    try:
        recorded = await recorder.record(trigger)
        if isinstance(recorded, PointsmanError):
            raise recorded
    except BaseException:
        if waiting is not None:
            waiting.cancel()
        raise
    return recorded


def _too_late() -> Unavailable:
    return Unavailable(
        "The call could not be recorded in time.",
        hint="It may have been recorded all the same. Send it again; with an Idempotency-Key it cannot run twice.",
    )
