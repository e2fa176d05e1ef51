"""Replays: doing it again.

A replay is a new trigger with `replayOf`; what it repeats stays as it was.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row, select

from api.resources import callbacks, executions, triggers
from api.resources.shapes import Given, example
from api.work import Work
from shared.errors import Conflict
from shared.models import ActionExecution
from shared.postgres.connections import cursor_of
from shared.runs.replay import Start, replay


class NewReplay(Given):
    """from: `failed` leaves out what succeeded, `start` runs everything again."""

    model_config = example(from_="failed")

    from_: Literal["failed", "start"] = Field("failed", alias="from")


def create(work: Work, owner: UUID, trigger_id: UUID, new: NewReplay) -> triggers.ShownTrigger:
    """Run a settled trigger again, as a new trigger.

    Conflict: it has not settled, or nothing would run.
    """
    trigger = triggers.own(work.session, owner, trigger_id)
    if new.from_ == "failed" and trigger.status == "SUCCESS" and _has_executions(work, trigger_id):
        raise Conflict(
            "Every action of this trigger succeeded.",
            code="nothing_failed",
            hint='Replay it from the start: {"from": "start"}.',
        )
    return _renew(work, owner, trigger, new.from_)


def retry(work: Work, owner: UUID, execution_id: UUID) -> triggers.ShownTrigger:
    """Run one action of a settled trigger again, as a new trigger. Conflict: as in create()."""
    execution = executions.own(work.session, owner, execution_id)[0]
    trigger = triggers.own(work.session, owner, execution.trigger_id)
    return _renew(work, owner, trigger, "failed", execution.action_id)


def _has_executions(work: Work, trigger_id: UUID) -> bool:
    found = work.session.scalar(
        select(ActionExecution.id).where(ActionExecution.trigger_id == trigger_id).limit(1)
    )
    return found is not None


def _renew(
    work: Work, owner: UUID, trigger: Row[Any], start: Start, only_action: UUID | None = None
) -> triggers.ShownTrigger:
    if not callbacks.own(work.session, owner, trigger.callback_id).active_status:
        raise Conflict(
            "The callback is switched off.",
            code="callback_inactive",
            hint="Set its activeStatus to true first.",
        )
    made = replay(
        cursor_of(work.session),
        owner,
        [trigger.id],
        start,
        only_action=only_action,
        hint_in_seconds=work.settings.first_hint_seconds,
    )
    if trigger.id not in made and trigger.finished_at is not None:
        raise Conflict(
            "What would run again belongs to actions that were deleted.",
            code="nothing_to_run",
            hint='Replay the trigger from the start, with the actions as they are now: {"from": "start"}.',
        )
    if trigger.id not in made:
        raise Conflict(
            "This trigger has not settled yet.",
            code="trigger_in_motion",
            hint="Wait for its end, or cancel it first.",
        )
    new_id = made[trigger.id]
    work.hint([new_id])
    work.audit("trigger_replayed", trigger=trigger.id, replay=new_id)
    return triggers.show(work.session, owner, new_id)
