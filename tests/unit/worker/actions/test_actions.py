"""What every kind of action goes through, whatever it does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared import action_types
from shared.errors import Invalid
from tests.made_kind import PURE
from tests.prepared import prepare
from tests.unit.worker.actions.test_http_post import context
from worker import actions
from worker.actions.contract import AttemptStamp, Outcome, Prepared
from worker.doors import Doors
from worker.doors.storage import Storage
from worker.egress.http import Egress
from worker.records import ActionRecord

ACTION = ActionRecord(
    id=UUID(int=1),
    callback_id=UUID(int=2),
    callback_url="http://callback.example/",
    type="MADE_UP",
    name=None,
    order=0,
    parallel=False,
    enabled=True,
    stops_on_failure=True,
    config={},
    retry=None,
)


STAMP = AttemptStamp(number=1, sent_at=1_700_000_000)
DOORS = Doors({Storage: cast(Any, "its door"), Egress: cast(Any, "another's")})


def kind(**functions: Any) -> Any:
    """A kind of action that works, but for these functions."""

    async def perform(request: Any, stamp: Any, door: Any) -> str:
        assert (request, stamp, door) == ("request", STAMP, "its door")
        return "delivered"

    working = {
        "DOOR": Storage,
        "starts_at_claim": lambda _action: True,
        "prepare": lambda _action, _config, _context: "request",
        "perform": perform,
        "classify": lambda _delivery: Outcome(success=True),
    }
    return SimpleNamespace(**{**working, **functions})


def prepared(monkeypatch: pytest.MonkeyPatch, module: Any) -> Prepared | Outcome:
    monkeypatch.setitem(actions.KINDS, "MADE_UP", module)
    monkeypatch.setitem(cast(Any, action_types.KINDS), "MADE_UP", PURE)
    with capture_logs():
        return prepare(ACTION, context())


def starts(action: ActionRecord) -> bool:
    return actions.starts_at_claim(action, context().scope)


def attempt(monkeypatch: pytest.MonkeyPatch, module: Any) -> Outcome:
    ready = prepared(monkeypatch, module)
    assert isinstance(ready, Prepared)
    with capture_logs():
        return asyncio.run(actions.perform(ready, STAMP, DOORS))


def broken(*_arguments: Any) -> Any:
    raise RuntimeError("a fault of ours")


async def broken_too(*_arguments: Any) -> Any:
    raise RuntimeError("a fault of ours")


def test_a_kind_that_works_says_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt(monkeypatch, kind()) == Outcome(success=True)


def test_what_is_prepared_says_what_it_was_prepared_from(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepared(monkeypatch, kind())
    assert isinstance(ready, Prepared)
    assert (ready.action, ready.request) == (ACTION, "request")


@pytest.mark.parametrize("module", [kind(classify=broken), kind(perform=broken_too), kind(DOOR=str)])
def test_a_fault_of_ours_fails_the_attempt_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """Fails when an exception in perform() or classify() breaks the run, with all that it holds."""
    outcome = attempt(monkeypatch, module)
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "internal_error", True)


def test_a_cancelled_attempt_stays_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a drain's cancellation counts as a fault of ours: it would be tried again here."""

    async def hang(*_arguments: Any) -> Any:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        attempt(monkeypatch, kind(perform=hang))


def refuse(*_arguments: Any) -> Any:
    raise Invalid("Too large.", code="too_large", hint="Send less.")


@pytest.mark.parametrize(
    ("function", "text"), [(refuse, "Too large. Send less."), (broken, "The action's config or secret")]
)
def test_what_cannot_be_prepared_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, function: Any, text: str
) -> None:
    outcome = prepared(monkeypatch, kind(prepare=function))
    assert isinstance(outcome, Outcome)
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)
    assert text in (outcome.error or "")


def test_a_kind_says_whether_a_claim_may_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be prepared anyway starts, so that its failure is an attempt like any other."""
    monkeypatch.setitem(actions.KINDS, "MADE_UP", kind(starts_at_claim=lambda _action: False))
    assert not starts(ACTION)
    assert starts(replace(ACTION, flaw="cannot be read"))
    assert starts(replace(ACTION, type="FROM_A_NEWER_VERSION"))
    assert starts(replace(ACTION, type="HTTP_POST"))
    assert starts(replace(ACTION, type="STORE"))


def test_a_kind_that_cannot_say_whether_a_claim_may_start_it_is_left_to_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There it is prepared before it spends an attempt. Fails when a claim breaks with it."""
    monkeypatch.setitem(actions.KINDS, "MADE_UP", kind(starts_at_claim=broken))
    with capture_logs() as logs:
        assert not starts(ACTION)
    assert [entry["event"] for entry in logs] == ["starts_at_claim_broken"]


@pytest.mark.parametrize("success", [True, False])
def test_a_kind_may_end_an_execution_when_it_prepares_it(
    monkeypatch: pytest.MonkeyPatch, success: bool
) -> None:
    """Fails when its outcome is taken for a request, and performed."""
    end = Outcome(success=success, code="skipped")
    assert prepared(monkeypatch, kind(prepare=lambda _action, _config, _context: end)) is end
