"""What a probe is made with: a call that an action is tried with, or where a credential is shown.

Invariant: a credential that a recorded call came with is not sent again. One that the caller makes
up is sealed, as a recorded call has it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field
from sqlalchemy import select

from api.resources import subjects
from api.resources.shapes import Given, example
from api.resources.subjects import Sample
from api.urls import CUSTOM_PREFIX, TOKEN_PREFIX
from api.work import Work
from shared.action_types.http_message import check_url
from shared.errors import Invalid, NotFound
from shared.masks import CREDENTIAL_HEADERS, masked_recorded
from shared.models import Action, Callback, Trigger
from shared.probes.request import ProbeCall
from shared.templates.template import is_template

TEXT, JSON = "text/plain; charset=utf-8", "application/json"


class NewProbe(Given):
    """The call that an action is tried with: a recorded one, by `triggerId`, or a sample.

    By default it is an empty JSON object.
    """

    model_config = example(sample={"body": {"order": 42}, "headers": {"x-kind": "test"}})

    trigger_id: UUID | None = None
    sample: Sample | None = None


def _plain_url(url: str) -> str:
    if is_template(url):
        raise ValueError("it is no template")
    return check_url(url)


class NewCredentialProbe(Given):
    """What the credential is shown to. url: default, its first origin."""

    model_config = example(url="https://api.example.com/me", method="GET")

    url: Annotated[str, Field(max_length=8_192), AfterValidator(_plain_url)] | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"


def call_of(work: Work, callback: Callback, action: Action, new: NewProbe) -> ProbeCall:
    """The call that an action of this callback is tried with; raises NotFound and Invalid."""
    if new.trigger_id is None:
        return _made_up(work, callback, new.sample or Sample(body={}))
    if new.sample is not None:
        raise Invalid("Give triggerId or sample, not both.", hint="Leave one away.")
    return _recorded(work, callback, action, new.trigger_id)


def _made_up(work: Work, callback: Callback, sample: Sample) -> ProbeCall:
    is_text = isinstance(sample.body, str)
    content_type = sample.content_type or (TEXT if is_text else JSON)
    headers = {"content-type": content_type}
    headers |= {name.lower(): value for name, value in sample.headers.items()}
    custom, token = callback.custom_path, callback.trigger_token
    return ProbeCall(
        method=sample.method,
        path=f"{CUSTOM_PREFIX}{custom}" if custom else f"{TOKEN_PREFIX}{token}",
        query=sample.query,
        headers=[
            (name, work.secrets.encrypt(value) if name in CREDENTIAL_HEADERS else value)
            for name, value in headers.items()
        ],
        content_type=content_type,
        body=str(sample.body).encode("utf-8", "replace") if is_text else orjson.dumps(sample.body),
        answers=dict(sample.answers),
    )


def _recorded(work: Work, callback: Callback, action: Action, trigger_id: UUID) -> ProbeCall:
    trigger = work.session.scalar(
        select(Trigger).where(
            Trigger.id == trigger_id,
            Trigger.user_id == callback.user_id,
            Trigger.callback_id == callback.id,
        )
    )
    if trigger is None:
        raise NotFound("This callback has no such trigger.")
    headers: Any = trigger.headers
    reads = action.reads
    answers = subjects.answers_of(work.session, callback.id, [trigger_id], reads) if reads else {}
    return ProbeCall(
        method=trigger.method,
        path=trigger.path,
        query=trigger.query,
        headers=[(name, masked_recorded(name, value)) for name, value in headers],
        content_type=trigger.content_type,
        body=bytes(trigger.body),
        trigger_id=trigger.id,
        received_at=trigger.received_at.isoformat(),
        answers=answers.get(trigger_id, {}),
    )
