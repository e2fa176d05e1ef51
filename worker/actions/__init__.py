"""The I/O half of each action type, one file each, under the keys of shared/action_types."""

from __future__ import annotations

import structlog

from shared.errors import PointsmanError
from worker.actions import http_post, store
from worker.actions.contract import AttemptContext, Kind, Outcome
from worker.doors import Doors
from worker.records import ActionRecord

log = structlog.get_logger("actions")

KINDS: dict[str, Kind] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


async def attempt(action: ActionRecord, context: AttemptContext, doors: Doors) -> Outcome:
    """Make one attempt of an action and say how it ended. Raises nothing but CancelledError."""
    kind = KINDS.get(action.type)
    if kind is None:
        return Outcome.permanent(
            "bad_config", f"Actions of type {action.type} are not available in this version."
        )
    if action.flaw is not None:
        return Outcome.permanent("bad_config", action.flaw)
    try:
        request = kind.prepare(action, context)
    except PointsmanError as error:
        return Outcome.permanent("bad_config", f"{error.message} {error.hint}")
    except Exception:
        log.exception("prepare_broken", action=str(action.id), type=action.type)
        return Outcome.permanent("bad_config", "The action's config or secret cannot be used. Set it again.")
    try:
        outcome = kind.classify(await kind.perform(request, doors.of(kind.DOOR)))
    except Exception:
        log.exception("attempt_broken", action=str(action.id), type=action.type)
        return Outcome(
            success=False,
            code="internal_error",
            error="Pointsman failed during this attempt; its log says why.",
            retryable=True,
        )
    return outcome
