"""The I/O half of each action type, one file each, under the keys of shared/action_types.

Invariant: a fault in what a type does ends one attempt or one execution, and never its run.
starts_at_claim() and prepare() raise nothing, perform() nothing but CancelledError.
"""

from __future__ import annotations

import structlog

from shared.errors import PointsmanError
from worker.actions import http_post, store
from worker.actions.contract import AttemptStamp, ExecutionContext, Kind, Outcome, Prepared
from worker.doors import Doors
from worker.records import ActionRecord

log = structlog.get_logger("actions")

KINDS: dict[str, Kind] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


def starts_at_claim(action: ActionRecord) -> bool:
    """Whether a claim itself may commit the first attempt as RUNNING."""
    kind = KINDS.get(action.type)
    if kind is None or action.flaw is not None:
        return True
    try:
        return kind.starts_at_claim(action)
    except Exception:
        log.exception("starts_at_claim_broken", action=str(action.id), type=action.type)
        return False


def prepare(action: ActionRecord, context: ExecutionContext) -> Prepared | Outcome:
    """Make ready what perform() needs.

    An Outcome ends the execution, as a success or not: nothing is to be performed.
    """
    kind = KINDS.get(action.type)
    if kind is None:
        return Outcome.permanent(
            "bad_config", f"Actions of type {action.type} are not available in this version."
        )
    if action.flaw is not None:
        return Outcome.permanent("bad_config", action.flaw)
    try:
        made = kind.prepare(action, context)
        return made if isinstance(made, Outcome) else Prepared(kind, action, made)
    except PointsmanError as error:
        return Outcome.permanent("bad_config", f"{error.message} {error.hint}")
    except Exception:
        log.exception("prepare_broken", action=str(action.id), type=action.type)
        return Outcome.permanent("bad_config", "The action's config or secret cannot be used. Set it again.")


async def perform(prepared: Prepared, stamp: AttemptStamp, doors: Doors) -> Outcome:
    """Make one attempt, which is committed as RUNNING under this stamp, and say how it ended."""
    kind, action, request = prepared
    try:
        return kind.classify(await kind.perform(request, stamp, doors.of(kind.DOOR)))
    except Exception:
        log.exception("attempt_broken", action=str(action.id), type=action.type)
        return Outcome(
            success=False,
            code="internal_error",
            error="Pointsman failed during this attempt; its log says why.",
            retryable=True,
        )
