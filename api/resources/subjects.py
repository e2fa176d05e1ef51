"""What actions, templates and conditions are tried on: a past trigger, or a sample that the caller
makes up.

Invariants:

- A past trigger is the owner's and of the callback in question.
- Its body is read only up to a bound.
- A credential that a call came with is a mask or sealed, also one that the caller makes up. So it
  shows as a mask, and of all who try it a probe alone sends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import Field, JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.resources.history import Past
from api.resources.paging import walk
from api.resources.shapes import EXAMPLE_ID, Given, example
from api.urls import CUSTOM_PREFIX, TOKEN_PREFIX
from api.work import Work
from shared.errors import Invalid, NotFound
from shared.masks import CREDENTIAL_HEADERS
from shared.models import Action, ActionExecution, Callback, Trigger
from shared.templates.scope import Subject

MAX_BODY_BYTES = 256 * 1024
SAMPLE_TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXT, JSON = "text/plain; charset=utf-8", "application/json"

Text = Annotated[str, Field(max_length=MAX_BODY_BYTES)]


class Sample(Given):
    """A call that somebody could send. body: a text as it is, anything else as JSON; by default an
    empty object.

    contentType: by default that of the headers, else what the body is. answers: what earlier
    actions are answered, by their names: {"statusCode", "headers", "body"}.
    """

    model_config = example(body={"id": 7}, headers={"x-event": "paid"}, query="dry=1")

    method: Annotated[str, Field(pattern="^[A-Z]{1,20}$")] = "POST"
    query: Annotated[str, Field(max_length=8_192)] = ""
    headers: dict[str, Text] = Field(default_factory=dict, max_length=100)
    content_type: Annotated[str, Field(max_length=200)] | None = None
    body: JsonValue = Field(default_factory=dict)
    answers: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, max_length=100)


def of_sample(work: Work, callback: Callback, sample: Sample) -> Subject:
    """The subject of a made-up call of this callback, its credentials sealed."""
    is_text = isinstance(sample.body, str)
    given = {name.lower(): value for name, value in sample.headers.items()}
    seal = work.secrets.encrypt
    headers = {name: seal(value) if name in CREDENTIAL_HEADERS else value for name, value in given.items()}
    content_type = sample.content_type or headers.get("content-type") or (TEXT if is_text else JSON)
    custom, token = callback.custom_path, callback.trigger_token
    return Subject(
        trigger_id=UUID(EXAMPLE_ID),
        received_at=SAMPLE_TIME,
        method=sample.method,
        path=f"{CUSTOM_PREFIX}{custom}" if custom else f"{TOKEN_PREFIX}{token}",
        query=sample.query,
        headers=orjson.dumps(list({**headers, "content-type": content_type}.items())).decode(),
        content_type=content_type,
        body=str(sample.body).encode("utf-8", "replace") if is_text else orjson.dumps(sample.body),
        callback_id=callback.id,
        callback_name=callback.name,
        answers=sample.answers,
    )


class Recalled(NamedTuple):
    """A past trigger. subject: None if its body is too large to be read here."""

    trigger_id: UUID
    received_at: datetime
    subject: Subject | None


def of_trigger(
    work: Work,
    callback: Callback,
    trigger_id: UUID,
    reads: Collection[str],
    at_most: int = MAX_BODY_BYTES,
) -> Subject:
    """The subject of a trigger of this callback; raises NotFound, Invalid if its body has more than
    at_most bytes, and Unavailable when the process holds too many.

    reads: the names of the actions whose answers are needed.
    """
    work.hold(at_most)
    found = of_triggers(work.session, callback, [trigger_id], reads, at_most)
    if not found:
        raise NotFound("This callback has no such trigger.")
    if found[0].subject is None:
        raise Invalid(
            f"The body of this trigger has more than {at_most} bytes.",
            hint="Take another trigger, or give a sample.",
        )
    return found[0].subject


def newest(session: Session, callback: Callback, count: int) -> list[UUID]:
    """The ids of the callback's newest triggers."""
    past = Past(callback.user_id, callback.id)
    return list(walk(session, [past.triggers()], count).ids)


def of_triggers(
    session: Session,
    callback: Callback,
    ids: list[UUID],
    reads: Collection[str],
    at_most: int = MAX_BODY_BYTES,
) -> list[Recalled]:
    """Triggers of this callback, newest first."""
    rows = session.execute(
        select(
            Trigger.id,
            Trigger.received_at,
            Trigger.method,
            Trigger.path,
            Trigger.query,
            Trigger.headers,
            Trigger.content_type,
            func.octet_length(Trigger.body),
            func.substring(Trigger.body, 1, at_most),
        )
        .where(Trigger.id.in_(ids), Trigger.user_id == callback.user_id, Trigger.callback_id == callback.id)
        .order_by(Trigger.id.desc())
    ).all()
    answers = answers_of(session, callback.id, ids, reads) if reads and ids else {}
    return [
        Recalled(row[0], row[1], None if row[7] > at_most else _subject(row, callback, answers))
        for row in rows
    ]


def _subject(row: Any, callback: Callback, answers: dict[UUID, dict[str, Any]]) -> Subject:
    trigger_id, received_at, method, path, query, headers, content_type, _, body = row
    return Subject(
        trigger_id=trigger_id,
        received_at=received_at,
        method=method,
        path=path,
        query=query,
        headers=orjson.dumps(headers).decode(),
        content_type=content_type,
        body=bytes(body),
        callback_id=callback.id,
        callback_name=callback.name,
        answers=answers.get(trigger_id, {}),
    )


def answers_of(
    session: Session, callback_id: UUID, ids: Iterable[UUID], reads: Collection[str]
) -> dict[UUID, dict[str, Any]]:
    """What actions with these names were answered, by the triggers' ids and their names."""
    rows = session.execute(
        select(ActionExecution.trigger_id, Action.name, ActionExecution.response)
        .join(Action, Action.id == ActionExecution.action_id)
        .where(
            ActionExecution.trigger_id.in_(ids),
            Action.callback_id == callback_id,
            Action.deleted_at.is_(None),
            Action.name.in_(reads),
            ActionExecution.response.is_not(None),
        )
    )
    found: dict[UUID, dict[str, Any]] = {}
    for trigger_id, name, response in rows:
        found.setdefault(trigger_id, {})[name] = response
    return found
