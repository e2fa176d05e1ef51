"""What happens to a call of a trigger URL: resolve, refuse loops, deduplicate, record, answer.

Before deduplicate is the marked place of challenge, verify and limit.

Invariants:

- Everything that may refuse a call comes before it is recorded, and its answer comes after the
  commit.
- The steps up to the commit share one deadline.
- Nothing here holds a thread, and what a step waits for is awaited.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

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
from shared.errors import OutcomeUnknown, PointsmanError, Unavailable
from shared.ids import new_id


async def accept(call: Call, own: IngressParts) -> Answer:
    """Record a call as a trigger and say so.

    Raises a PointsmanError: nothing was recorded, unless it is OutcomeUnknown.
    """
    trigger: NewTrigger | None = None
    try:
        async with own.deadline.limit():
            callback = await own.resolver.find(call.address)
            must_be_active(callback)
            own.loops.refuse(call.via, callback)
            if callback.forwards and call.credentials:
                call = call.with_sealed(callback.forwards, own.secrets.encrypt)
            # Place of: a provider's unsigned challenge, which is answered and is no trigger.
            # Place of: the verification of the call, as the callback says.
            # Place of: a signed challenge.
            # Place of: the limits of the callback and of its user's plan. They are awaited.
            key = await key_of_call(call, callback, own.settings.idempotency_seconds, own.threads)
            wait_seconds = preferred_wait_seconds(call.prefer, callback.timeout_ms)
            trigger = NewTrigger(new_id(), callback, call, key, wait_seconds)
            # before the commit, since the trigger may settle right after it
            waiting = own.outcomes.wait(trigger.id, callback.user_id, wait_seconds) if wait_seconds else None
            recorded = await _record(own.recorder_of(trigger), trigger, waiting)
    except TimeoutError:
        failure = Unavailable if trigger is None else OutcomeUnknown
        raise _counted(failure("The call could not be recorded in time.")) from None
    except Exception as error:  # noqa: BLE001 - none is swallowed: each is a refusal
        raise _counted(translate(error, call.path))  # noqa: B904 - mostly it is the same error
    if wait_seconds:
        call = call.without_body()
        trigger = replace(trigger, call=call)
    return await answer(trigger, recorded, waiting, own.outcomes)


def _counted(error: PointsmanError) -> PointsmanError:
    metrics.triggers_refused.labels(error.code).inc()
    return error


async def _record(
    recorder: Recorder, trigger: NewTrigger, waiting: Future[TriggerOutcome] | None
) -> Recorded:
    """Wait until it is committed. Who is refused waits for no outcome."""
    try:
        match await recorder.record(trigger):
            case Recorded() as recorded:
                return recorded
            case refusal:
                raise refusal
    except BaseException:
        if waiting is not None:
            waiting.cancel()
        raise
