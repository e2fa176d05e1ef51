"""The I/O half of each action type, one file each, under the keys of shared/action_types.

Invariant: a fault in what a type does ends one attempt or one execution, and never its run.
starts_at_claim() raises nothing, perform() nothing but CancelledError. What comes before an attempt
is in preparing.py.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.templates.jobs import holds, is_for_here
from shared.templates.language import TemplateError
from shared.templates.scope import Scope
from worker.actions import http_post, store
from worker.actions.contract import AttemptStamp, Kind, Outcome, Prepared
from worker.doors import Ways
from worker.records import ActionRecord

log = structlog.get_logger("actions")

KINDS: dict[str, Kind] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


def starts_at_claim(action: ActionRecord, scope: Callable[[], Scope]) -> bool:
    """Whether a claim itself may commit the first attempt as RUNNING.

    scope: what is read of its trigger. An action with a condition may, if that holds and is quickly
    found out. One that reads earlier answers is prepared first.
    """
    kind = KINDS.get(action.type)
    if kind is None or action.flaw is not None:
        return True
    try:
        if action.reads or not kind.starts_at_claim(action):
            return False
        if action.condition is None:
            return True
        read = scope()
        if not is_for_here(0, read.subject.body, {}):
            return False
        return holds(action.condition, read)
    except TemplateError:
        return False  # its run says so
    except Exception:
        log.exception("starts_at_claim_broken", action=str(action.id), type=action.type)
        return False


async def perform(prepared: Prepared, stamp: AttemptStamp, doors: Ways) -> Outcome:
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
