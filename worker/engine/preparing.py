"""What comes before an attempt: the condition, the templates, and what its type makes of them.

Invariants:

- A fault in any of it ends one execution, and never its run. Nothing is raised but CancelledError.
- An action whose condition does not hold is skipped: a success without an attempt.
- What takes a time that nobody knows is rendered in another process.
"""

from __future__ import annotations

from typing import Any

import structlog

from shared.crypto import SecretBox
from shared.errors import PointsmanError, Unavailable
from shared.templates.jobs import Job, is_for_here
from shared.templates.language import TemplateError
from worker.actions import KINDS
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome, Prepared
from worker.doors.storage import Storage
from worker.engine.plans import Plans
from worker.records import ActionRecord
from worker.rendering.renderer import Renderer


class _Unrendered:
    """In the place of a kind whose request could not be rendered: the attempt fails, and another
    comes.
    """

    DOOR = Storage

    def starts_at_claim(self, action: ActionRecord) -> bool:  # noqa: ARG002
        return False

    def prepare(self, action: ActionRecord, config: Any, context: ExecutionContext) -> Any:
        raise NotImplementedError

    async def perform(self, request: Outcome, stamp: AttemptStamp, door: Any) -> Outcome:  # noqa: ARG002
        return request

    def classify(self, delivery: Outcome) -> Outcome:
        return delivery


UNRENDERED = _Unrendered()
SKIPPED = Outcome(success=True, response={"skipped": True})

log = structlog.get_logger("actions")


class Preparing:
    """Makes the executions of one worker ready. Lives on its loop."""

    def __init__(self, secrets: SecretBox, renderer: Renderer) -> None:
        self._plans = Plans(secrets)
        self._renderer = renderer

    async def prepare(
        self, action: ActionRecord, context: ExecutionContext, *, is_decided: bool = False
    ) -> Prepared | Outcome:
        """Make ready what perform() needs.

        An Outcome ends the execution, as a success or not: nothing is to be performed. is_decided:
        its attempt has begun, so that its condition is not asked again.
        """
        kind = KINDS.get(action.type)
        if kind is None:
            return Outcome.permanent(
                "bad_config", f"Actions of type {action.type} are not available in this version."
            )
        if action.flaw is not None:
            return Outcome.permanent("bad_config", action.flaw)
        try:
            config = await self._config(action, context, None if is_decided else action.condition)
            if config is None:
                return SKIPPED
            made = kind.prepare(action, config, context)
        except TemplateError as error:
            return Outcome.permanent("template_failed", error.message)
        except Unavailable as error:
            return Prepared(UNRENDERED, action, Outcome(False, "unavailable", error.message, retryable=True))
        except PointsmanError as error:
            return Outcome.permanent("bad_config", f"{error.message} {error.hint}")
        except Exception:
            log.exception("prepare_broken", action=str(action.id), type=action.type)
            return Outcome.permanent(
                "bad_config", "The action's config or secret cannot be used. Set it again."
            )
        return made if isinstance(made, Outcome) else Prepared(kind, action, made)

    async def _config(self, action: ActionRecord, context: ExecutionContext, condition: str | None) -> Any:
        """The config, rendered. None: the condition does not hold."""
        plan = self._plans.of(action)
        if condition is None and plan.ready is not None:
            return plan.ready
        scope = context.scope()
        job = Job(scope.subject, plan.parts, condition)
        if is_for_here(plan.look_ups, context.trigger.body, context.answers):
            rendered = job.done(scope)
        else:
            rendered = await self._renderer.render(job, context.callback.user_id)
        if not rendered.holds:
            return None
        return plan.ready or plan.filled(rendered.texts)
