"""One attempt of an action, whatever its kind does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from worker import actions
from worker.actions.contract import Outcome
from worker.doors import Doors
from worker.doors.storage import Storage
from worker.egress.http import Egress
from worker.records import ActionRecord

ACTION = ActionRecord(
    id=UUID(int=1),
    callback_id=UUID(int=2),
    type="MADE_UP",
    name=None,
    order=0,
    parallel=False,
    enabled=True,
    stops_on_failure=True,
    config={},
    retry=None,
)


DOORS = Doors({Storage: cast(Any, "its door"), Egress: cast(Any, "another's")})


def kind(**functions: Any) -> Any:
    """A kind of action that works, but for these functions."""

    async def perform(_request: Any, door: Any) -> str:
        assert door == "its door"
        return "delivered"

    working = {"DOOR": Storage, "prepare": lambda _action, _context: "request", "perform": perform}
    return SimpleNamespace(**working, **{"classify": lambda _delivery: Outcome(success=True), **functions})


def attempt(monkeypatch: pytest.MonkeyPatch, module: Any) -> Outcome:
    monkeypatch.setitem(actions.KINDS, "MADE_UP", module)
    with capture_logs():
        return asyncio.run(actions.attempt(ACTION, cast(Any, None), DOORS))


def broken(*_arguments: Any) -> Any:
    raise RuntimeError("a fault of ours")


async def broken_too(*_arguments: Any) -> Any:
    raise RuntimeError("a fault of ours")


def test_a_kind_that_works_says_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt(monkeypatch, kind()) == Outcome(success=True)


@pytest.mark.parametrize(
    "module", [kind(classify=broken), SimpleNamespace(**{**vars(kind()), "perform": broken_too})]
)
def test_a_fault_of_ours_fails_the_attempt_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """Fails when an exception in perform() or classify() breaks the run, with all that it holds."""
    outcome = attempt(monkeypatch, module)
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "internal_error", True)


def test_what_cannot_be_prepared_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = attempt(monkeypatch, SimpleNamespace(**{**vars(kind()), "prepare": broken}))
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)
