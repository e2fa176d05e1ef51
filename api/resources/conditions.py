"""Conditions that are tried on what has come, before an action has them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.resources import callbacks, subjects
from api.resources.action_texts import check_condition, names_of_actions, reads_of_condition
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Given, Shown, example
from api.work import Work
from shared.templates.apart import Done, done_somewhere
from shared.templates.jobs import Job
from shared.templates.language import TemplateError

# So many of the newest triggers a condition is tried on.
MAX_TRIED = 20
TOO_LARGE = TemplateError("Its body is too large to be tried.")


class NewTry(Given):
    """A condition, and the callback whose last triggers it is tried on."""

    model_config = example(callbackId=EXAMPLE_OTHER_ID, condition="body.amount > 100")

    callback_id: UUID
    condition: str = Field(min_length=1)


class TriedTrigger(Shown):
    """What a condition says of one trigger."""

    trigger_id: UUID
    received_at: datetime
    holds: bool | None = Field(description="Null: it could not be evaluated.")
    error: str | None


class ShownTry(Shown):
    """What a condition says of the last triggers, newest first."""

    model_config = example(
        items=[{"triggerId": EXAMPLE_ID, "receivedAt": EXAMPLE_TIME, "holds": True, "error": None}]
    )

    items: list[TriedTrigger]


def attempt(work: Work, owner: UUID, new: NewTry) -> ShownTry:
    """Try a condition; raises Invalid where it is none, and Unavailable."""
    callback = callbacks.own(work.session, owner, new.callback_id)
    check_condition(new.condition)
    reads = reads_of_condition(new.condition, names_of_actions(work.session, callback.id))
    ids = subjects.newest(work.session, callback, MAX_TRIED)
    work.hold(len(ids) * subjects.MAX_BODY_BYTES)
    past = subjects.of_triggers(work.session, callback, ids, reads)
    done = iter(done_somewhere([Job(one.subject, condition=new.condition) for one in past if one.subject]))
    return ShownTry(items=[_tried(one, next(done) if one.subject else TOO_LARGE) for one in past])


def _tried(one: subjects.Recalled, done: Done) -> TriedTrigger:
    return TriedTrigger(
        trigger_id=one.trigger_id,
        received_at=one.received_at,
        holds=None if isinstance(done, TemplateError) else done.holds,
        error=done.message if isinstance(done, TemplateError) else None,
    )
