"""What becomes of an execution from its preparation to its end, with a journal that only notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.errors import RowRejected
from tests.made_kind import Saying, register
from tests.unit.worker.engine.test_run import OFF, ONCE, Story, say, switched_off, to, written
from tests.unit.worker.engine.test_steps import new_action
from worker.actions.contract import Outcome
from worker.egress.messages import HttpRequest, HttpResponse
from worker.engine.entry import Entry, Parked
from worker.engine.run import carry
from worker.engine.state import Status
from worker.records import ActionRecord


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Saying:
    return register(monkeypatch)


def test_what_did_not_start_at_its_claim_is_prepared_committed_and_only_then_performed(
    saying: Saying,
) -> None:
    story = Story(say("hello"))
    seen: list[tuple[int, list[tuple[str, int]]]] = []
    answer = story.journal.answer

    def note(entry: Entry) -> Any:
        seen.append((len(saying.prepared), list(story.megaphone.said)))
        return answer(entry)

    story.journal.answer = note
    story.tell()
    assert written(story) == [(0, 1, False), (1, 0, True)]
    assert seen == [(1, []), (1, [("hello", 1)])]
    assert [(e.status, e.attempt) for e in story.run.executions] == [(Status.SUCCESS, 1)]


def test_whom_preparing_ends_spends_no_attempt(saying: Saying) -> None:
    story = Story(say(None), to("200", 1))
    story.tell()
    assert written(story) == [(0, 1, False), (1, 0, True)]
    ended, behind = story.run.executions
    assert (ended.status, ended.attempt, ended.duration_ms) == (Status.FAILED, 0, None)
    assert ended.outcome == Outcome.permanent("bad_config", "Nothing to say. Give it a word.")
    assert behind.outcome is not None
    assert behind.outcome.code == "earlier_step_failed"
    assert (story.megaphone.said, story.egress.requests) == ([], [])


def test_whom_preparing_ends_is_written_with_the_start_of_its_siblings(saying: Saying) -> None:
    story = Story(say(None, 0, parallel=True), say("hello", 1, parallel=True))
    story.tell()
    assert written(story) == [(0, 2, False), (1, 0, True)]
    assert story.statuses == ["FAILED", "SUCCESS"]
    assert story.megaphone.said == [("hello", 1)]


def test_siblings_go_together_whether_or_not_their_claim_has_started_them(saying: Saying) -> None:
    story = Story(to("slow", 0, parallel=True), say("hello", 1, parallel=True))
    story.tell()
    assert written(story) == [(0, 1, False), (1, 0, False), (1, 0, True)]
    assert [(e.status, e.attempt) for e in story.run.executions] == [(Status.SUCCESS, 1)] * 2


def test_what_is_refused_a_start_keeps_the_outcome_that_was_written(saying: Saying) -> None:
    story = Story(say("hello"))
    story.journal.answer = switched_off
    story.tell()
    assert (story.run.executions[0].outcome, story.run.executions[0].attempt) == (OFF, 0)
    assert story.megaphone.said == []


def test_an_action_that_is_gone_or_off_is_left_to_the_journal(saying: Saying) -> None:
    """Fails when its old config decides: it would end bad_config, and not say that it is off."""
    story = Story(to("200"), say(None, 1), say("on again", 2))
    _, off, again = story.run.executions
    assert off.action is not None
    assert again.action is not None
    off.action, again.action, now = replace(off.action, enabled=False), None, again.action
    off.action = replace(off.action, stops_on_failure=False)
    story.journal.answer = lambda entry: {
        e.action_id: OFF if e is off else None if e.action == now else now for e in entry.starting
    }
    story.tell()
    assert off.outcome == OFF
    assert story.megaphone.said == [("on again", 1)]


def fixed_to(config: dict[str, Any]) -> Callable[[Entry], Any]:
    """The journal finds that whatever starts has this config now."""

    def answer(entry: Entry) -> dict[UUID, ActionRecord | None]:
        fates: dict[UUID, ActionRecord | None] = {}
        for execution in entry.starting:
            assert execution.action is not None
            now = replace(execution.action, config=config)
            fates[execution.action_id] = None if now == execution.action else now
        return fates

    return answer


def test_a_later_step_is_prepared_once_if_nobody_changes_it(saying: Saying) -> None:
    story = Story(to("200"), say("hello", 1))
    story.tell()
    assert saying.prepared == [{"say": "hello"}]


def test_a_config_that_changed_before_its_step_is_prepared_anew(saying: Saying) -> None:
    """Fails when what was prepared from the claim's config is sent."""
    story = Story(to("200"), say("old", 1))
    story.journal.answer = fixed_to({"say": "new"})
    story.tell()
    assert saying.prepared == [{"say": "old"}, {"say": "new"}]
    assert story.megaphone.said == [("new", 1)]


def test_a_config_that_was_fixed_before_its_step_fails_nobody(saying: Saying) -> None:
    """Fails when what the claim has read ends an execution without a second look."""
    story = Story(to("200"), say(None, 1))
    story.journal.answer = fixed_to({"say": "fixed"})
    story.tell()
    assert story.statuses == ["SUCCESS", "SUCCESS"]
    assert story.megaphone.said == [("fixed", 1)]


def test_a_config_that_was_broken_before_its_step_spends_no_attempt(saying: Saying) -> None:
    """Fails when a change is found out after the attempt was committed."""
    story = Story(to("200"), say("hello", 1))
    story.journal.answer = fixed_to({})
    story.tell()
    tail = story.run.executions[1]
    assert tail.outcome is not None
    assert (tail.status, tail.attempt, tail.outcome.code) == (Status.FAILED, 0, "bad_config")
    assert story.megaphone.said == []
    assert written(story) == [(1, 1, False), (0, 1, False), (0, 0, True)]


def test_an_action_that_changes_again_and_again_is_performed_as_it_is_at_its_commit(saying: Saying) -> None:
    story = Story(say("1"))
    configs = iter([{"say": "2"}, {"say": "3"}])
    config = {"say": "1"}

    def answer(entry: Entry) -> Any:
        nonlocal config
        config = next(configs, config)
        return fixed_to(config)(entry)

    story.journal.answer = answer
    story.tell()
    assert saying.prepared == [{"say": "1"}, {"say": "2"}, {"say": "3"}]
    assert story.megaphone.said == [("3", 1)]


def test_siblings_of_what_has_changed_do_not_wait_for_it(saying: Saying) -> None:
    story = Story(say("old", 0, parallel=True), say("same", 1, parallel=True))
    changing = story.run.executions[0]
    assert changing.action is not None
    now = replace(changing.action, config={"say": "new"})
    story.journal.answer = lambda entry: {
        e.action_id: now if e is changing and e.action != now else None for e in entry.starting
    }
    story.tell()
    assert saying.prepared == [{"say": "old"}, {"say": "same"}, {"say": "new"}]
    assert story.megaphone.said == [("same", 1), ("new", 1)]


SKIPPED = Outcome(success=True, code="skipped", response={"because": "its condition says so"})


def test_preparing_may_end_an_execution_as_a_success(saying: Saying) -> None:
    """As a condition does that says no. The steps behind go on."""
    saying.ends_with = SKIPPED
    story = Story(say("hello"), to("200", 1))
    story.tell()
    skipped = story.run.executions[0]
    assert (skipped.status, skipped.attempt, skipped.outcome) == (Status.SUCCESS, 0, SKIPPED)
    assert (story.megaphone.said, story.egress.requests) == ([], ["200"])
    row = story.journal.entries[0][0].first_rows[skipped.action_id]
    assert (row.status, row.attempt, row.error) == ("SUCCESS", 0, None)
    assert row.response == '{"because":"its condition says so"}'


def test_what_preparing_ends_is_never_tried_again(saying: Saying) -> None:
    """After the commit, too; fails when such an end is judged like an attempt's."""
    saying.ends_with = Outcome(success=False, code="no", error="no", retryable=True)
    story = Story(say("hello"))
    (execution,) = story.run.executions
    execution.status, execution.attempt = Status.RUNNING, 1
    story.tell()
    assert (execution.status, execution.attempt, execution.outcome) == (Status.FAILED, 1, saying.ends_with)


def test_what_preparing_ends_unstorably_fails_alone(saying: Saying) -> None:
    """Fails when the end that is refused is prepared again and again."""
    saying.ends_with = Outcome(success=True, response={"because": object()})
    story = Story(say("hello", stops_on_failure=False), to("200", 1))
    with capture_logs():
        story.tell()
    assert story.statuses == ["FAILED", "SUCCESS"]
    assert story.run.executions[0].outcome is not None
    assert story.run.executions[0].outcome.code == "unstorable_response"
    assert len(saying.prepared) == 1


def refusing(holds: Callable[[Entry], bool]) -> Callable[[Entry], Any]:
    """PostgreSQL refuses the entries that hold something."""
    return lambda entry: (
        RowRejected("no") if holds(entry) else dict.fromkeys(e.action_id for e in entry.starting)
    )


def test_only_what_may_be_to_blame_is_replaced(saying: Saying) -> None:
    """Fails when all that stands beside an answer that cannot be stored is said to be one."""
    story = Story(to("500", retry=ONCE), say(None, 1), to("200", 2))
    story.journal.answer = refusing(lambda entry: "http_500" in repr(entry.rows))
    with capture_logs():
        story.tell()
    assert [e.outcome and e.outcome.code for e in story.run.executions] == [
        "unstorable_response",
        "earlier_step_failed",
        "earlier_step_failed",
    ]


def test_a_retry_comes_although_its_answer_cannot_be_stored() -> None:
    """Fails when a receiver that is down for a moment, and answers nonsense, is given up."""
    story = Story(to("503", retry={"maxAttempts": 2, "schedule": [60]}))
    story.journal.answer = refusing(lambda entry: "http_503" in repr(entry.rows))
    with capture_logs():
        story.tell()
    (execution,) = story.run.executions
    assert execution.outcome is not None
    assert (execution.status, execution.outcome.code) == (Status.PENDING, "unstorable_response")
    assert isinstance(story.journal.last, Parked)


def test_an_entry_that_is_refused_whatever_it_holds_raises_in_the_end() -> None:
    story = Story(to("200"))
    story.journal.answer = lambda _entry: RowRejected("no")
    with capture_logs(), pytest.raises(RowRejected):
        story.tell()


def test_no_entry_has_two_rows_for_one_execution(saying: Saying) -> None:
    story = Story(say("hello"))
    (execution,) = story.run.executions
    execution.finish(OFF)
    with pytest.raises(AssertionError):
        Entry(story.run, changed=(execution,), starting=(execution,))


def test_what_its_claim_has_started_fails_as_its_first_attempt() -> None:
    story = Story(replace(new_action(), config={}))
    story.tell()
    (execution,) = story.run.executions
    assert execution.outcome is not None
    assert (execution.attempt, execution.outcome.code) == (1, "bad_config")


def test_nothing_that_was_prepared_is_kept_beyond_its_attempt(saying: Saying) -> None:
    """It holds a body; fails when a run that goes on for hours keeps each of them."""
    story = Story(say("hello"), to("503", 1, retry={"maxAttempts": 2, "schedule": [60]}))
    story.tell()
    assert [execution.prepared for execution in story.run.executions] == [None, None]


def told_until_it_is_cancelled(story: Story, at_entry: int = 1) -> None:
    """Carry the run, and cancel it while it waits for this entry of the journal."""

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        while len(story.journal.entries) < at_entry:
            await asyncio.sleep(0)
        carrying.cancel()
        await carrying

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tell())


def test_a_result_that_has_come_is_in_the_very_next_entry(saying: Saying) -> None:
    """Fails when the journal is asked anything before: cancelled there, the run would be sent
    again.
    """
    story = Story(to("200"), say(None, 1))
    told_until_it_is_cancelled(story)
    assert story.egress.requests == ["200"]
    assert [states for _, states in story.journal.entries] == [["SUCCESS"]]


def test_a_result_that_came_as_its_run_was_cancelled_is_written() -> None:
    """Fails when the last of siblings is forgotten between its end and what is written next."""
    story = Story(to("200", 0, parallel=True), to("201", 1, parallel=True))
    real = story.egress.request

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))

        async def request(request: HttpRequest) -> HttpResponse:
            answer = await real(request)
            if answer.status == 201:
                while not story.journal.entries:
                    await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(carrying.cancel)
            return answer

        story.egress.request = request  # type: ignore[method-assign]
        await carrying

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tell())
    assert story.statuses == ["SUCCESS", "SUCCESS"]
    assert [states for _, states in story.journal.entries] == [["SUCCESS"], ["SUCCESS"]]


@pytest.mark.parametrize("siblings", [0, 1])
def test_a_retry_without_a_delay_is_written_before_its_next_attempt(siblings: int) -> None:
    """Fails when one entry has both: of two rows for one execution PostgreSQL takes either."""
    at_once = {"maxAttempts": 3, "schedule": [0]}
    story = Story(*(to("503", n, parallel=True, retry=at_once) for n in range(siblings + 1)))
    story.tell()
    assert len(story.egress.requests) == 3 * (siblings + 1)
    for execution in story.run.executions:
        came = [
            states[entry.changed.index(execution)] if execution in entry.changed else "starts"
            for entry, states in story.journal.entries
            if execution in (*entry.changed, *entry.starting)
        ]
        assert came == ["PENDING", "starts", "PENDING", "starts", "FAILED"]
    assert not any(set(entry.changed) & set(entry.starting) for entry, _ in story.journal.entries)


def test_what_preparing_ends_is_written_before_its_siblings_are_attempted(saying: Saying) -> None:
    """Fails when it waits in memory until the last of them has ended."""
    story = Story(to("slow", 0, parallel=True), say(None, 1, parallel=True), to("slow", 2, parallel=True))
    story.tell()
    first, *later = written(story)
    assert first == (0, 1, False)
    # how the last of the two ends goes with the end of the run, if it comes apart from the other
    assert later in ([(1, 0, False), (1, 0, False), (0, 0, True)], [(1, 0, False), (1, 0, True)])
