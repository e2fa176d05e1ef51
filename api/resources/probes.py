"""Probes: a test button's one request, sent by a worker, and what became of it, for an hour.

Invariants:

- A user has one probe at a time that is not done, and makes at most MOST_A_MINUTE in a minute.
- Nothing is recorded that no worker would take.
- What is shown holds no secret, and an address only for an ADMIN.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from api.resources import actions, callbacks, credentials
from api.resources.probe_calls import NewCredentialProbe, NewProbe, call_of
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_TIME, Begun, Shown, example
from api.work import Work
from shared.action_types import KINDS
from shared.credentials import kind_of, may_go
from shared.errors import Invalid, NotFound, TooMany, Unavailable
from shared.models import ActionType, Probe, ProbeState
from shared.probes.moves import NO_WORKER, UNCLAIMED_SECONDS, WORKER_LOST
from shared.probes.request import ActionProbe, CredentialProbe, sealed_request

MOST_A_MINUTE = 10
MINUTE_SECONDS = 60

# Until the one that is under way may have ended.
NEXT_SECONDS = 2

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
    """What was answered: a few headers, and at most 4 KiB of the body. body: null if it is no text,
    or encoded.

    bodyBytes: how many came, at most as many as a delivery reads. truncated: there were more than
    are shown. remark: what was odd about its framing.
    """

    model_config = example(
        headers={"content-type": "application/json"},
        body='{"ok": true}',
        bodyBytes=12,
        truncated=False,
        remark=None,
    )

    headers: dict[str, str]
    body: str | None
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
    _admit(work, owner)
    call = call_of(work, callback, action, new)
    probe = _record(work, owner, ActionProbe(action.id, callback.id, call))
    work.audit("action_tested", action=action.id, probe=probe.id)
    return _show(work, probe)


def of_credential(work: Work, owner: UUID, credential_id: UUID, new: NewCredentialProbe) -> ShownProbe:
    """Show a credential once to one of its origins. TooMany: as in of_action()."""
    row = credentials.own(work.session, owner, credential_id)
    kind = kind_of(row.provider, row.meta)
    origins = kind.origins(row.meta or {})
    if ActionType.HTTP_POST not in kind.action_types or not origins:
        raise Invalid(
            "This credential cannot be tested alone.",
            code="not_testable",
            hint="Test an action that uses it.",
        )
    url = f"{origins[0]}/" if new.url is None else new.url
    if not may_go(origins, url):
        raise Invalid(
            "url: it is at no origin of this credential.",
            code="credential_origin",
            hint="Take one of meta.origins, with any path.",
        )
    _admit(work, owner)
    probe = _record(work, owner, CredentialProbe(row.id, url, new.method))
    work.audit("credential_tested", credential=row.id, probe=probe.id)
    return _show(work, probe)


def find(work: Work, owner: UUID, probe_id: UUID) -> ShownProbe:
    """One probe with its result; raises NotFound."""
    found = work.session.scalar(
        select(Probe).where(Probe.id == probe_id, Probe.user_id == owner, Probe.expires_at > func.now())
    )
    if found is None:
        raise NotFound("You have no such probe.", hint="Probes are kept for an hour.")
    return _show(work, found)


def _admit(work: Work, owner: UUID) -> None:
    """Refuse what nobody would take, and what is too much, before anything large is read."""
    if not work.session.scalar(_HAS_WORKER, {"stale": work.settings.stale_seconds}):
        raise Unavailable(
            "No worker is running that could send it.",
            code="no_worker",
            hint="Start a worker, or look at /readyz. Nothing was sent.",
        )
    _refuse_too_many(work.session, owner)
    # The plan's quota comes here: a probe counts as one trigger.


def _record(work: Work, owner: UUID, request: ActionProbe | CredentialProbe) -> Probe:
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
