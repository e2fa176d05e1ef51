"""The I/O half of each action type, one file each, under the keys of shared/action_types."""

from __future__ import annotations

from types import ModuleType

from shared.errors import PointsmanError
from worker.actions import http_post, store
from worker.actions.contract import Action, AttemptContext, Doors, Outcome

KINDS: dict[str, ModuleType] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


async def attempt(action: Action, context: AttemptContext, doors: Doors) -> Outcome:
    """Make one attempt of an action and say how it ended. Raises nothing but CancelledError."""
    module = KINDS.get(action.type)
    if module is None:
        return Outcome.permanent(
            "bad_config", f"Actions of type {action.type} are not available in this version."
        )
    if action.flaw is not None:
        return Outcome.permanent("bad_config", action.flaw)
    try:
        request = module.prepare(action, context)
    except PointsmanError as error:
        return Outcome.permanent("bad_config", f"{error.message} {error.hint}")
    outcome: Outcome = module.classify(await module.perform(request, doors))
    return outcome
