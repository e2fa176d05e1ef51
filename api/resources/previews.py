"""What an action would do with a call: rendered, and nothing is done.

Invariants:

- No secret is opened for a preview: a config is masked before it is rendered.
- A past trigger is the owner's and the callback's.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, model_validator

from api.resources import actions, bindings, callbacks, secrecy, subjects
from api.resources.action_texts import check_condition, names_of_actions, reads_of
from api.resources.content import MAX_SHOWN_BYTES, shown
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_OTHER_ID, Given, Shown, example
from api.resources.subjects import Sample
from api.work import Work
from shared.action_types import KINDS, fill, parse_config, slots
from shared.action_types.texts import Filler
from shared.credentials import kind_name
from shared.credentials.query import with_parameter
from shared.errors import Invalid
from shared.masks import MASK
from shared.models import Action, ActionType, Callback
from shared.templates.apart import done_somewhere
from shared.templates.jobs import Job, Part
from shared.templates.language import TemplateError


class NewPreview(Given):
    """An action, by its id or made up for a callback, and what it is about.

    triggerId: a past trigger of the callback; else sample, by default an empty call. What is given
    beside actionId takes the place of what the action has.
    """

    model_config = example(
        callbackId=EXAMPLE_OTHER_ID,
        type="HTTP_POST",
        config={"url": "https://example.com/orders/{{ body.id }}"},
        sample={"body": {"id": 7}},
    )

    action_id: UUID | None = None
    callback_id: UUID | None = None
    type: ActionType | None = None
    config: actions.ActionConfig | None = None
    condition: Annotated[str, Field(min_length=1)] | None = None
    trigger_id: UUID | None = None
    sample: Sample = Field(default_factory=Sample)

    @model_validator(mode="after")
    def _names_an_action(self) -> NewPreview:
        made_up = self.callback_id is not None and self.type is not None and self.config is not None
        if self.action_id is None and not made_up:
            raise ValueError("give actionId, or callbackId, type and config")
        return self


class PreviewedRequest(Shown):
    """What would leave, or be kept. Pointsman's own headers come to it when it is sent."""

    method: str | None = None
    url: str | None = None
    headers: dict[str, str] | None = None
    key: str | None = None
    content_type: str | None = None
    body: str
    body_encoding: str
    body_bytes: int
    truncated: bool


class ShownPreview(Shown):
    """What an action would do. request: null if it is skipped."""

    model_config = example(
        triggerId=EXAMPLE_ID,
        skipped=False,
        request={
            "method": "POST",
            "url": "https://example.com/orders/7",
            "headers": {"content-type": "application/json"},
            "key": None,
            "contentType": None,
            "body": '{"id": 7}',
            "bodyEncoding": "text",
            "bodyBytes": 9,
            "truncated": False,
        },
    )

    trigger_id: UUID | None = Field(description="The past trigger that it is about, if it is one.")
    skipped: bool = Field(description="True: its condition does not hold.")
    request: PreviewedRequest | None


def create(work: Work, owner: UUID, new: NewPreview) -> ShownPreview:
    """Render an action. Raises TemplateError and Invalid where it would fail, and Unavailable."""
    callback, kind, config, condition = _what(work, owner, new)
    reads = reads_of(kind, config, check_condition(condition), names_of_actions(work.session, callback.id))
    if new.trigger_id is None:
        subject = subjects.of_sample(work, callback, new.sample)
    else:
        subject = subjects.of_trigger(work, callback, new.trigger_id, reads)
    found = slots(kind, config)
    (done,) = done_somewhere([Job(subject, [Part(one.where, one.template) for one in found], condition)])
    if isinstance(done, TemplateError):
        raise done
    if not done.holds:
        return ShownPreview(trigger_id=new.trigger_id, skipped=True, request=None)
    model = fill(kind, parse_config(kind, config), Filler(config, found).fields(done.texts))
    request = KINDS[kind].preview(model, subject, secrecy.shown_url(work, callback))
    if new.action_id is not None:
        _add_credential(work, owner, new.action_id, request)
    return ShownPreview(trigger_id=new.trigger_id, skipped=False, request=_shown(request))


def _what(
    work: Work, owner: UUID, new: NewPreview
) -> tuple[Callback, ActionType, dict[str, Any], str | None]:
    """The callback, the type, the masked config and the condition of what is to be previewed."""
    if new.action_id is None:
        assert new.callback_id is not None
        assert new.type is not None
        callback = callbacks.own(work.session, owner, new.callback_id)
        return callback, new.type, _masked(new.type, new.config or {}), new.condition
    action = actions.own(work.session, owner, new.action_id)
    callback = callbacks.own(work.session, owner, action.callback_id)
    if new.callback_id not in (None, callback.id) or new.type not in (None, action.type):
        raise Invalid("The action is of another callback or type.", hint="Leave callbackId and type out.")
    config = _masked(action.type, new.config) if new.config is not None else _kept(work, action)
    condition = new.condition if "condition" in new.model_fields_set else action.condition
    return callback, action.type, config, condition


def _add_credential(work: Work, owner: UUID, action_id: UUID, request: dict[str, Any]) -> None:
    """Show where the action's credential would stand, with a mask in its place; raises Invalid
    where it must not go.
    """
    action = actions.own(work.session, owner, action_id)
    if action.credential_id is None:
        return
    goes_to = str(request.get("url"))
    credential = bindings.usable(work, owner, action.credential_id, action.type, goes_to)
    meta = credential.meta or {}
    match kind_name(credential.provider, meta):
        case "bearer" | "basic" | "oauth2":
            request["headers"] = {**request["headers"], "authorization": MASK}
        case "header":
            request["headers"] = {**request["headers"], str(meta["header"]).lower(): MASK}
        case "query":
            request["url"] = with_parameter(request["url"], meta["parameter"], MASK)


def _kept(work: Work, action: Action) -> dict[str, Any]:
    config, _ = secrecy.shown_config(work, action)
    return config


def _masked(kind: ActionType, config: dict[str, Any]) -> dict[str, Any]:
    parse_config(kind, config)
    masked: dict[str, Any] = KINDS[kind].redact(config)
    return masked


def _shown(request: dict[str, Any]) -> PreviewedRequest:
    body: bytes = request.pop("body")
    encoding, text, truncated = shown(body[:MAX_SHOWN_BYTES], len(body))
    return PreviewedRequest(
        method=request.get("method"),
        url=request.get("url"),
        headers=request.get("headers"),
        key=request.get("key"),
        content_type=request.get("contentType"),
        body=text,
        body_encoding=encoding,
        body_bytes=len(body),
        truncated=truncated,
    )
