"""One coroutine per trigger, with a journal that only notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.action_types.steps import assign_steps
from shared.errors import ClaimLost, RowRejected
from shared.ids import new_id
from tests.made_kind import MADE_TYPE, Megaphone
from tests.prepared import preparing
from tests.unit.worker.actions.test_http_post import BOX, context
from tests.unit.worker.engine.test_steps import new_action
from worker import actions
from worker.actions import http_post, starts_at_claim
from worker.actions.contract import Outcome
from worker.doors import Doors
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import HttpRequest, HttpResponse
from worker.engine.attempt import LeaseLost
from worker.engine.entry import Entry, Parked, Settled
from worker.engine.journal import Journal
from worker.engine.room import Room
from worker.engine.run import carry
from worker.engine.services import RunServices
from worker.engine.state import Execution, HeldRun, Status
from worker.records import ActionRecord

ONCE = {"maxAttempts": 1}


OFF = Outcome.permanent("action_disabled", "It is off.")


def switched_off(entry: Entry) -> dict[UUID, Outcome]:
    return {e.action_id: OFF for e in entry.starting}


class NotingJournal:
    """Notes entries as they come, with the states at that moment, and answers as told."""

    def __init__(self) -> None:
        self.entries: list[tuple[Entry, list[str]]] = []
        self.answer: Callable[[Entry], Any] = lambda entry: dict.fromkeys(e.action_id for e in entry.starting)

    async def write(self, entry: Entry) -> Any:
        self.entries.append((entry, [e.status.value for e in entry.changed]))
        await asyncio.sleep(0)
        answer = self.answer(entry)
        if isinstance(answer, RowRejected):
            raise answer
        return answer

    @property
    def last(self) -> Settled | Parked:
        end = self.entries[-1][0].end
        assert isinstance(end, (Settled, Parked))
        return end


class TalkingEgress:
    """Answers by the URL's path: /200, /500, …; /slow answers 200 later; /broken fails to
    connect.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def request(self, request: HttpRequest) -> HttpResponse:
        path = request.url.rsplit("/", 1)[1]
        self.requests.append(path)
        if path == "slow":
            await asyncio.sleep(0.05)
        if path == "broken":
            raise EgressError("connect_failed", "no", phase="connect")
        return HttpResponse(int(path) if path.isdigit() else 200, (), b"", False)


class Story:
    """One run and what happened to it."""

    def __init__(self, *actions: ActionRecord, started: bool = True) -> None:
        self.journal, self.egress, self.megaphone = NotingJournal(), TalkingEgress(), Megaphone()
        self.may_start = started
        base = context()
        executions = [
            Execution(
                id=new_id(),
                action_id=action.id,
                type=action.type,
                step=step,
                status=Status.RUNNING
                if step == 0 and starts_at_claim(action, base.scope)
                else Status.PENDING,
                attempt=1 if step == 0 and starts_at_claim(action, base.scope) else 0,
                action=action,
            )
            for action, step in assign_steps(actions)
        ]
        places = max(len(executions), 1)
        self.run = HeldRun(base.trigger, base.callback, new_id(), 1, 0, executions, places=places)
        self.room = Room(1_000, 10**9, 1)
        self.room.take(self.run.id, self.run.trigger.user_id, places, 1)
        self.services = RunServices(
            journal=cast(Journal, self.journal),
            room=self.room,
            doors=Doors({Egress: cast(Egress, self.egress), Megaphone: self.megaphone}),
            preparing=preparing(BOX),
            secrets=BOX,
            limits=base.limits,
            may_start=lambda: self.may_start,
        )

    def tell(self) -> None:
        asyncio.run(carry(self.run, self.services))

    @property
    def statuses(self) -> list[str]:
        return [execution.status.value for execution in self.run.executions]


def to(path: str, order: int = 0, **fields: Any) -> ActionRecord:
    return replace(new_action(order), config={"url": f"http://x/{path}"}, **fields)


def say(word: str | None, order: int = 0, **fields: Any) -> ActionRecord:
    """An action that does not start at its claim; without a word it cannot be prepared."""
    config = {} if word is None else {"say": word}
    return replace(new_action(order), type=MADE_TYPE, config=config, **fields)


def written(story: Story) -> list[tuple[int, int, bool]]:
    """Of each entry: how many it changes and starts, and whether it ends the run."""
    return [
        (len(entry.changed), len(entry.starting), entry.end is not None) for entry, _ in story.journal.entries
    ]


def test_one_action_is_settled_with_its_result_in_one_entry() -> None:
    story = Story(to("200"))
    story.tell()
    ((entry, states),) = story.journal.entries
    assert states == ["SUCCESS"]
    assert entry.end == story.journal.last
    assert isinstance(story.journal.last, Settled)
    assert (story.journal.last.success, story.journal.last.status_code) == (True, 200)


def test_a_parallel_pair_then_a_tail() -> None:
    story = Story(to("slow", 0, parallel=True), to("200", 1, parallel=True), to("201", 2))
    story.tell()
    assert story.egress.requests == ["slow", "200", "201"]
    assert [states for _, states in story.journal.entries] == [["SUCCESS"]] * 3
    assert written(story) == [(1, 0, False), (1, 1, False), (1, 0, True)]
    assert [execution.attempt for execution in story.run.executions] == [1, 1, 1]


def test_a_failure_stops_the_steps_behind() -> None:
    story = Story(to("500", retry=ONCE), to("200", 1))
    story.tell()
    assert story.egress.requests == ["500"]
    assert story.statuses == ["FAILED", "FAILED"]
    assert story.run.executions[1].outcome is not None
    assert story.run.executions[1].outcome.code == "earlier_step_failed"
    assert isinstance(story.journal.last, Settled)
    assert (story.journal.last.success, story.journal.last.status_code) == (False, 500)


def test_an_answer_that_cannot_be_written_fails_its_execution_and_not_its_neighbours_in_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when an entry is first serialised in the journal's thread, among others'."""
    unwritable = Outcome(success=True, response={"answer": object()})
    kind = SimpleNamespace(**{**vars(http_post), "classify": lambda _delivery: unwritable})
    monkeypatch.setitem(actions.KINDS, "HTTP_POST", kind)
    story = Story(to("200"))
    with capture_logs():
        story.tell()
    assert story.statuses == ["FAILED"]
    assert story.run.executions[0].outcome is not None
    assert story.run.executions[0].outcome.code == "unstorable_response"
    assert isinstance(story.journal.last, Settled)
    assert not story.journal.last.success


def test_a_retry_parks_the_run() -> None:
    story = Story(to("503", retry={"maxAttempts": 2, "schedule": [60]}), to("200", 1))
    story.tell()
    assert story.egress.requests == ["503"]
    assert story.statuses == ["PENDING", "PENDING"]
    assert isinstance(story.journal.last, Parked)
    assert 55 <= story.journal.last.delay_seconds <= 73


def test_a_connection_that_failed_is_tried_again_at_once_with_a_number_of_its_own() -> None:
    """Each attempt is committed as RUNNING before its side effect; fails when the run is parked
    first.
    """
    story = Story(to("broken"))
    story.tell()
    assert story.egress.requests == ["broken", "broken"]
    told = [(states, [e.attempt for e in entry.starting]) for entry, states in story.journal.entries]
    assert told == [(["PENDING"], []), ([], [2]), (["PENDING"], [])]
    assert isinstance(story.journal.last, Parked)
    assert 4 <= story.journal.last.delay_seconds <= 7


def test_a_slow_sibling_does_not_delay_an_immediate_retry() -> None:
    story = Story(to("broken", 0, parallel=True), to("slow", 1, parallel=True))
    story.tell()
    assert sorted(story.egress.requests) == ["broken", "broken", "slow"]
    assert [(e.status.value, e.attempt) for e in story.run.executions] == [("PENDING", 2), ("SUCCESS", 1)]
    assert [end for entry, _ in story.journal.entries if (end := entry.end)] == [story.journal.last]


def test_an_action_disabled_before_its_immediate_retry_is_not_sent_again() -> None:
    story = Story(to("broken"))
    story.journal.answer = switched_off
    story.tell()
    assert story.egress.requests == ["broken"]
    assert story.statuses == ["FAILED"]


def test_attempts_lost_with_their_worker_do_not_use_up_the_schedule() -> None:
    story = Story(to("503", retry={"maxAttempts": 2, "schedule": [60]}))
    story.run.executions[0].attempt, story.run.executions[0].lost_attempts = 5, 4
    story.tell()
    assert story.statuses == ["PENDING"]


def test_an_answer_that_cannot_be_stored_fails_and_is_decided_anew() -> None:
    """Fails when the rejected entry's decision is kept: the tail would run after a failure."""
    story = Story(to("200"), to("201", 1))
    story.journal.answer = lambda entry: (
        RowRejected("no") if any(e.status is Status.SUCCESS for e in entry.changed) else {}
    )
    story.tell()
    assert story.egress.requests == ["200"]
    assert story.statuses == ["FAILED", "FAILED"]
    assert story.run.executions[0].outcome is not None
    assert story.run.executions[0].outcome.code == "unstorable_response"


def test_a_lost_claim_ends_the_run_at_once() -> None:
    story = Story(to("200", parallel=True), to("slow", 1, parallel=True), to("201", 2))
    story.journal.answer = lambda _entry: ClaimLost("gone")
    with pytest.raises(ClaimLost):
        story.tell()
    assert "201" not in story.egress.requests


def test_without_a_lease_nothing_is_sent() -> None:
    story = Story(to("200"), started=False)
    with pytest.raises(LeaseLost):
        story.tell()
    assert (story.egress.requests, story.journal.entries) == ([], [])


@pytest.mark.parametrize("doom", ["callback_deleted", "worker_lost"])
def test_a_doomed_run_fails_everything_and_says_why(doom: str) -> None:
    story = Story(to("200"), to("201", 1))
    story.run.doom = doom
    story.tell()
    assert story.egress.requests == []
    assert story.statuses == ["FAILED", "FAILED"]
    assert isinstance(story.journal.last, Settled)
    assert (story.journal.last.success, story.journal.last.details["reason"]) == (False, doom)


def test_an_action_disabled_before_its_step_fails_without_an_attempt() -> None:
    story = Story(to("200"), to("201", 1))
    story.journal.answer = switched_off
    story.tell()
    assert story.egress.requests == ["200"]
    tail = story.run.executions[1]
    assert (tail.status, tail.attempt) == (Status.FAILED, 0)
    assert tail.outcome == OFF


def test_nothing_to_do_is_a_success_that_says_so() -> None:
    story = Story()
    story.tell()
    assert isinstance(story.journal.last, Settled)
    assert (story.journal.last.success, story.journal.last.details["reason"]) == (True, "no_enabled_action")


def test_the_primary_actions_status_code_is_the_logs() -> None:
    once = {"maxAttempts": 1}
    primary = replace(new_action(0, stops=False), config={"target": "callback_url"}, retry=once)
    story = Story(primary, to("201", 1))
    story.egress.request = _teapot(story.egress.request)  # type: ignore[method-assign]
    story.tell()
    assert isinstance(story.journal.last, Settled)
    assert story.journal.last.status_code == 418


def test_the_status_code_of_an_earlier_claim_still_counts() -> None:
    story = Story(replace(new_action(0), config={"target": "callback_url"}), to("201", 1))
    primary, tail = story.run.executions
    primary.status, primary.stored_status_code = Status.SUCCESS, 207
    tail.status, tail.attempt = Status.RUNNING, 1
    story.tell()
    assert isinstance(story.journal.last, Settled)
    assert story.journal.last.status_code == 207


def _teapot(real: Any) -> Any:
    async def request(given: HttpRequest) -> HttpResponse:
        if given.url.startswith("http://callback.example"):
            return HttpResponse(418, (), b"", False)
        answer: HttpResponse = await real(given)
        return answer

    return request
