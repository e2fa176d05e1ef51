"""What a probe is made with: a call that an action is tried with, or where a credential is shown.

Invariant: a credential that a recorded call came with is not sent again. One that the caller makes
up is sealed, as a recorded call has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field

from api.resources import subjects
from api.resources.shapes import Given, example
from api.resources.subjects import Sample
from api.work import Work
from shared.action_types.http_message import check_url
from shared.errors import Invalid
from shared.masks import masked_recorded
from shared.models import Action, Callback
from shared.probes.request import ProbeCall
from shared.templates.scope import Subject
from shared.templates.template import is_template

# Of a recorded call. It stands in the row of the probe, sealed, and a worker holds some of them at
# once, beside the bodies of its runs.
MAX_BODY_BYTES = 1024 * 1024


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
    """The call that an action of this callback is tried with.

    Raises NotFound, Invalid, and Unavailable when the process holds too many bodies.
    """
    if new.trigger_id is None:
        return _call(subjects.of_sample(work, callback, new.sample or Sample()))
    if new.sample is not None:
        raise Invalid("Give triggerId or sample, not both.", hint="Leave one away.")
    subject = subjects.of_trigger(work, callback, new.trigger_id, action.reads, MAX_BODY_BYTES)
    call = _call(subject)
    return replace(
        call,
        trigger_id=new.trigger_id,
        received_at=subject.received_at.isoformat(),
        headers=[(name, masked_recorded(name, value)) for name, value in call.headers],
    )


def _call(subject: Subject) -> ProbeCall:
    return ProbeCall(
        method=subject.method,
        path=subject.path,
        query=subject.query,
        headers=[(name, value) for name, value in orjson.loads(subject.headers)],
        content_type=subject.content_type,
        body=subject.body,
        answers=dict(subject.answers),
    )
