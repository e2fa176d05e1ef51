"""Probes: a test button's one request, sent by a worker, and what became of it, for an hour.

Invariants:

- A user has one probe at a time that is not done, and makes at most MOST_A_MINUTE in a minute.
- Nothing is recorded that no worker would take.
- What is shown holds no secret, and an address only for an ADMIN.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field, JsonValue
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from api.resources import actions, callbacks, triggers
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_TIME, Begun, Given, Shown, example
from api.urls import CUSTOM_PREFIX, TOKEN_PREFIX
from api.work import Work
from shared.action_types import KINDS
from shared.errors import Invalid, NotFound, TooMany, Unavailable
from shared.masks import CREDENTIAL_HEADERS, masked_recorded
from shared.models import Action, ActionExecution, ActionType, Callback, Probe, ProbeState, Trigger
from shared.probes.moves import NO_WORKER, UNCLAIMED_SECONDS, WORKER_LOST
from shared.probes.request import ActionProbe, ProbeCall, sealed_request

MOST_A_MINUTE = 10
MINUTE_SECONDS = 60

# Until the one that is under way may have ended.
NEXT_SECONDS = 2
MAX_HEADERS = 100
MAX_QUERY_CHARS = 8_192

# Its side effect is a row of the user's own, which nobody wants from a test.
NOT_TESTABLE = frozenset({ActionType.STORE})

FAILURES = {
    WORKER_LOST: "The worker died during this probe: it may have been sent.",
    NO_WORKER: f"No worker has taken it within {UNCLAIMED_SECONDS / 60:g} minutes; nothing was sent.",
}

_HAS_WORKER = text("""
SELECT EXISTS (SELECT 1 FROM workers
WHERE cardinality(lanes) > 0 AND heartbeat_at > now() - make_interval(secs => :stale))
""")


def _plain(value: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("control characters are not allowed")
    return value


Line = Annotated[str, AfterValidator(_plain)]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$")]


class NewProbe(Given):
    """The call that the action is tried with: a recorded one, by `triggerId`, or one that is made
    up.

    body: a text is sent as it is, anything else as JSON. contentType: default, that of JSON, or of
    text for a text.
    """

    model_config = example(body={"order": 42}, headers={"X-Kind": "test"})

    trigger_id: UUID | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    query: Annotated[Line, Field(max_length=MAX_QUERY_CHARS)] = ""
    headers: Annotated[dict[HeaderName, Line], Field(max_length=MAX_HEADERS)] = Field(default_factory=dict)
    content_type: Annotated[Line, Field(max_length=200)] | None = None
    body: JsonValue = Field(default_factory=dict)


class SentRequest(Shown):
    """What was sent, secrets masked."""

    model_config = example(
        method="POST",
        url="https://api.example.com/orders?key=***",
        headers={"content-type": "application/json", "authorization": "***"},
        bodyBytes=13,
    )

    method: str
    url: str
    headers: dict[str, str]
    body_bytes: int


class GivenResponse(Shown):
    """What was answered: a few headers, and at most 4 KiB of the body. In base64 it is no text.

    bodyBytes: how many came, at most as many as a delivery reads. truncated: there were more than
    are shown. remark: what was odd about its framing.
    """

    model_config = example(
        headers={"content-type": "application/json"},
        body='{"ok": true}',
        bodyEncoding="text",
        bodyBytes=12,
        truncated=False,
        remark=None,
    )

    headers: dict[str, str]
    body: str
    body_encoding: Literal["text", "base64"]
    body_bytes: int
    truncated: bool
    remark: str | None


_RESULT: dict[str, Any] = {
    "outcome": "success",
    "code": "ok",
    "error": None,
    "dialled": "api.example.com:443",
    "address": None,
    "durationMs": 42,
    "statusCode": 200,
    "request": {
        "method": "POST",
        "url": "https://api.example.com/orders",
        "headers": {"content-type": "application/json"},
        "bodyBytes": 13,
    },
    "response": {
        "headers": {"content-type": "application/json"},
        "body": '{"ok": true}',
        "bodyEncoding": "text",
        "bodyBytes": 12,
        "truncated": False,
        "remark": None,
    },
}


class ProbeResult(Shown):
    """How it ended. skipped: the action's condition does not hold.

    dialled: host and port as the URL names them. address: what that led to, for an ADMIN alone.
    """

    model_config = example(**_RESULT)

    outcome: Literal["success", "failure", "skipped"]
    code: str
    error: str | None
    dialled: str | None = None
    address: str | None = None
    duration_ms: int | None = None
    status_code: int | None = None
    request: SentRequest | None = None
    response: GivenResponse | None = None


class ShownProbe(Begun):
    """A probe; its result once it is DONE."""

    model_config = example(
        id=EXAMPLE_ID, state="DONE", createdAt=EXAMPLE_TIME, finishedAt=EXAMPLE_TIME, result=_RESULT
    )

    state: ProbeState
    created_at: datetime
    finished_at: datetime | None
    result: ProbeResult | None

    @property
    def is_done(self) -> bool:
        """Whether it will not change any more."""
        return self.state is ProbeState.DONE


def of_action(work: Work, owner: UUID, action_id: UUID, new: NewProbe) -> ShownProbe:
    """Try an action once. TooMany: the owner's last one is under way, or there were too many."""
    action = actions.own(work.session, owner, action_id)
    if action.type in NOT_TESTABLE or action.type not in KINDS:
        raise Invalid(
            f"An action of type {action.type} cannot be tested.",
            code="not_testable",
            hint="Call the trigger URL, and look at what was stored.",
        )
    callback = callbacks.own(work.session, owner, action.callback_id)
    call = _made_up(work, callback, new) if new.trigger_id is None else _recorded(work, owner, action, new)
    probe = _record(work, owner, ActionProbe(action.id, callback.id, call))
    work.audit("action_tested", action=action.id, probe=probe.id)
    return _show(work, probe)


def find(work: Work, owner: UUID, probe_id: UUID) -> ShownProbe:
    """One probe with its result; raises NotFound."""
    found = work.session.scalar(
        select(Probe).where(Probe.id == probe_id, Probe.user_id == owner, Probe.expires_at > func.now())
    )
    if found is None:
        raise NotFound("You have no such probe.", hint="Probes are kept for an hour.")
    return _show(work, found)


def _record(work: Work, owner: UUID, request: ActionProbe) -> Probe:
    """Write the row, if the owner may have one more and somebody will take it."""
    _refuse_too_many(work.session, owner)
    # The plan's quota comes here: a probe counts as one trigger.
    if not work.session.scalar(_HAS_WORKER, {"stale": work.settings.stale_seconds}):
        raise Unavailable(
            "No worker is running that could send it.",
            code="no_worker",
            hint="Start a worker, or look at /readyz. Nothing was sent.",
        )
    probe = work.fresh(Probe(user_id=owner, request=sealed_request(request, work.secrets)))
    work.hint_probe()
    return probe


def _refuse_too_many(session: Session, owner: UUID) -> None:
    """Under a lock, so that two calls do not pass the limits together."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"probes of {owner}", 0))))
    own = Probe.user_id == owner
    if session.scalar(select(func.count()).where(own, Probe.state != ProbeState.DONE)):
        raise _too_many("Another probe of yours is under way.", NEXT_SECONDS)
    age = func.extract("epoch", func.clock_timestamp() - Probe.created_at)
    ages = session.scalars(
        select(age).where(own).order_by(Probe.created_at.desc()).limit(MOST_A_MINUTE)
    ).all()
    if len(ages) == MOST_A_MINUTE and ages[-1] < MINUTE_SECONDS:
        raise _too_many(
            f"{MOST_A_MINUTE} probes a minute are allowed.", int(MINUTE_SECONDS - float(ages[-1])) + 1
        )


def _too_many(message: str, seconds: int) -> TooMany:
    error = TooMany(message, code="too_many_probes")
    error.retry_after_seconds = seconds
    return error


def _made_up(work: Work, callback: Callback, new: NewProbe) -> ProbeCall:
    is_text = isinstance(new.body, str)
    content_type = new.content_type or ("text/plain; charset=utf-8" if is_text else "application/json")
    headers = {name.lower(): value for name, value in new.headers.items()}
    headers["content-type"] = content_type
    return ProbeCall(
        method=new.method,
        path=f"{CUSTOM_PREFIX}{callback.custom_path}"
        if callback.custom_path
        else f"{TOKEN_PREFIX}{callback.trigger_token}",
        query=new.query,
        headers=[
            (name, work.secrets.encrypt(value) if name in CREDENTIAL_HEADERS else value)
            for name, value in headers.items()
        ],
        content_type=content_type,
        body=new.body.encode() if isinstance(new.body, str) else orjson.dumps(new.body),
    )


def _recorded(work: Work, owner: UUID, action: Action, new: NewProbe) -> ProbeCall:
    """The call of one of the callback's triggers, its credentials masked."""
    given = new.model_fields_set - {"trigger_id"}
    if given or new.trigger_id is None:
        raise Invalid("triggerId: the call is recorded; give nothing else.", hint="Leave the others away.")
    found = triggers.own(work.session, owner, new.trigger_id)
    if found.callback_id != action.callback_id:
        raise NotFound("This callback has no such trigger.")
    trigger = work.session.scalars(select(Trigger).where(Trigger.id == new.trigger_id)).one()
    headers: Any = trigger.headers
    return ProbeCall(
        method=trigger.method,
        path=trigger.path,
        query=trigger.query,
        headers=[(name, masked_recorded(name, value)) for name, value in headers],
        content_type=trigger.content_type,
        body=bytes(trigger.body),
        trigger_id=trigger.id,
        received_at=trigger.received_at.isoformat(),
        answers=_answers(work.session, action, trigger.id),
    )


def _answers(session: Session, action: Action, trigger_id: UUID) -> dict[str, Any]:
    """What earlier actions were answered then, those that this one reads."""
    if not action.reads:
        return {}
    rows = session.execute(
        select(Action.name, ActionExecution.response)
        .join(Action, Action.id == ActionExecution.action_id)
        .where(
            ActionExecution.trigger_id == trigger_id,
            Action.callback_id == action.callback_id,
            Action.name.in_(action.reads),
            ActionExecution.response.is_not(None),
        )
    )
    return {str(name): response for name, response in rows}


def _show(work: Work, probe: Probe) -> ShownProbe:
    return ShownProbe(
        id=probe.id,
        state=probe.state,
        created_at=probe.created_at,
        finished_at=probe.finished_at,
        result=_result(work, probe) if probe.state is ProbeState.DONE else None,
    )


def _result(work: Work, probe: Probe) -> ProbeResult:
    if probe.result is None:
        code = probe.failure or WORKER_LOST
        return ProbeResult(outcome="failure", code=code, error=FAILURES.get(code))
    told = orjson.loads(work.secrets.decrypt(probe.result, remember=False))
    if "admin" not in work.actor.permissions:
        told["address"] = None
    return ProbeResult.model_validate(told)
