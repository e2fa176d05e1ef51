"""The journal and its fence on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from shared.clock import database_clock
from shared.errors import ClaimLost, RowRejected
from shared.ids import new_id
from shared.postgres.connections import OwnedConnection, WatchedConnection
from shared.postgres.statements import Transaction
from tests.loops import later
from tests.world import World
from worker.actions.contract import Outcome
from worker.engine.claim import Claimer
from worker.engine.entry import Entry, Parked, Released, Settled
from worker.engine.journal import Journal
from worker.engine.retry import Again, Tries
from worker.engine.state import HeldRun, Status
from worker.records import ActionRecord

OK = Outcome(success=True, status_code=200, response={"statusCode": 200, "body": "fine"})
FIXED = '{"url": "http://fixed/"}'
SETTLED = Settled(success=True, status_code=200, details={"reason": None})


@pytest.fixture
def claim(world: World, claimer: Claimer) -> Callable[..., list[HeldRun]]:
    return lambda count=1, ids=None: claimer.claim(new_id(), ids or [world.trigger() for _ in range(count)])


def finished(run: HeldRun, outcome: Outcome = OK) -> Entry:
    for execution in run.executions:
        execution.finish(outcome, 12)
    return Entry(run, changed=tuple(run.executions), end=SETTLED)


def test_settling_removes_the_run_and_writes_the_log(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    world.action()
    (run,) = claim()

    assert later(journal.write, finished(run)).result(5) == {}

    assert world.run(run.id) is None
    log = world.log(run.id)
    assert log is not None
    assert (log["event"], log["success"], log["status_code"]) == ("trigger.settled", True, 200)
    assert log["response_time"] >= 0
    (execution,) = world.executions(run.id)
    assert (execution["status"], execution["duration_ms"]) == ("SUCCESS", 12)
    assert execution["response"] == {"statusCode": 200, "body": "fine"}
    assert execution["finished_at"] is not None


@pytest.mark.parametrize(
    "theft",
    [
        "UPDATE runs SET claim = claim + 1",
        "UPDATE runs SET worker_id = gen_random_uuid()",
        "UPDATE runs SET status = 'PENDING'",
        "DELETE FROM runs",
    ],
)
def test_a_stale_workers_late_write_changes_nothing(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]], theft: str
) -> None:
    """Fails without the fence."""
    world.action()
    (run,) = claim()
    world.do(theft)

    assert isinstance(later(journal.write, finished(run)).result(5), ClaimLost)

    assert [r["status"] for r in world.executions(run.id)] == ["RUNNING"]
    assert world.log(run.id) is None


def test_the_fence_sees_a_void_that_commits_while_it_waits(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]], connect: Callable[..., Any]
) -> None:
    """Fails when the fence is a join in the UPDATE: that reads an old snapshot."""
    world.action()
    (run,) = claim()
    sweeper = connect(autocommit=False)
    with sweeper.cursor() as cursor:
        cursor.execute("UPDATE runs SET claim = claim + 1, status = 'PENDING'")
        answer = later(journal.write, finished(run))
        with pytest.raises(TimeoutError):
            answer.result(0.5)  # it waits for the lock
        sweeper.commit()
    assert isinstance(answer.result(5), ClaimLost)
    assert [r["status"] for r in world.executions(run.id)] == ["RUNNING"]


def test_a_terminal_execution_is_never_overwritten(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    world.action()
    (run,) = claim()
    world.do("UPDATE action_executions SET status = 'FAILED', error = 'first'")
    later(journal.write, finished(run)).result(5)
    assert [(r["status"], r["error"]) for r in world.executions(run.id)] == [("FAILED", "first")]


def test_one_unstorable_response_among_fifty_fails_alone(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """Fails without the halving: one NUL makes PostgreSQL refuse the whole batch."""
    world.action()
    runs = claim(51)
    poison = Outcome(success=True, response={"body": "a\x00b"})
    answers = [later(journal.write, finished(run, poison if n == 25 else OK)) for n, run in enumerate(runs)]
    for n, answer in enumerate(answers):
        if n == 25:
            with pytest.raises(RowRejected):
                answer.result(10)
        else:
            assert answer.result(10) == {}
    assert world.run(runs[25].id) is not None
    assert world.ask("SELECT count(*) FROM logs WHERE success") == [(50,)]


def test_parking_gives_the_run_back_until_it_is_due(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    world.action()
    (run,) = claim()
    (execution,) = run.executions
    failed = Outcome(success=False, code="http_503", error="no", retryable=True, status_code=503)
    execution.retry(failed, 7, Again(60.0), run.trigger.received_at)
    world.do("UPDATE runs SET losses = 2, losses_alone = 1")

    later(journal.write, Entry(run, changed=(execution,), end=Parked(60.0))).result(5)

    row = world.run(run.id)
    assert row is not None
    assert (row["status"], row["worker_id"]) == ("PENDING", None)
    assert (row["losses"], row["losses_alone"]) == (0, 0), "what came to a pause by itself is no suspect"
    assert world.ask("SELECT due_at > now() + interval '50 s', due_at = hint_at FROM runs") == [(True, True)]
    (kept,) = world.executions(run.id)
    assert (kept["status"], kept["attempt"], kept["error"]) == ("PENDING", 1, "http_503: no")
    ((attempt),) = kept["history"]
    assert (attempt["attempt"], attempt["outcome"], attempt["statusCode"]) == (1, "http_503", 503)
    assert attempt["startedAt"] is not None


def test_an_immediate_retry_and_lost_attempts_are_known_to_the_next_claim(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """The schedule goes on where it stood; fails when a claim counts every attempt against it."""
    world.action()
    (run,) = claim()
    (execution,) = run.executions
    unsent = Outcome(success=False, code="connect_failed", error="no", retryable=True, unsent=True)
    execution.retry(unsent, 7, Again(0.0, immediate=True), run.trigger.received_at)
    later(journal.write, Entry(run, changed=(execution,))).result(5)
    execution.status = Status.PENDING
    later(journal.write, Entry(run, starting=(execution,))).result(5)
    later(journal.write, Entry(run, end=Released("released"))).result(5)

    (again,) = claim(ids=[run.id])

    assert again.executions[0].attempt == 3
    assert again.executions[0].tries == Tries(made=2, immediate=True)


def test_a_retry_at_once_counts_as_such_behind_whichever_attempt_it_comes(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """Fails when only one behind the first attempt is remembered: another would come at once."""
    world.action()
    (run,) = claim()
    (execution,) = run.executions
    failed = Outcome(success=False, code="http_503", error="no", retryable=True, status_code=503)
    refused = Outcome(
        success=False, code="http_401", error="no", retryable=True, status_code=401, mended=True
    )
    for outcome, again in ((failed, Again(5.0)), (refused, Again(0.0, immediate=True)), (failed, Again(5.0))):
        execution.retry(outcome, 7, again, run.trigger.received_at)
        later(journal.write, Entry(run, changed=(execution,))).result(5)
        later(journal.write, Entry(run, starting=(execution,))).result(5)
        execution.begin()
    later(journal.write, Entry(run, end=Released("released"))).result(5)

    (again_claimed,) = claim(ids=[run.id])

    assert again_claimed.executions[0].tries == Tries(made=4, immediate=True)
    (row,) = world.executions(run.id)
    assert [past.get("immediate") for past in row["history"]] == [None, True, None, None]


def test_a_receiver_that_is_gone_switches_its_action_off_and_says_so(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    action = world.action()
    runs = [*claim(), *claim()]
    entries = []
    for run in runs:
        (execution,) = run.executions
        execution.finish(Outcome(success=False, code="http_410", error="gone", status_code=410, gone=True))
        entries.append(Entry(run, changed=(execution,), end=Settled(False, 410, {"reason": None})))

    journal.flush(entries)

    assert world.ask("SELECT enabled FROM actions") == [(False,)]
    ((details, success, status_code),) = world.ask(
        "SELECT details, success, status_code FROM logs WHERE event = 'action.disabled'"
    )
    assert (details["reason"], details["actionId"], success, status_code) == ("gone", str(action), False, 410)
    assert details["triggerId"] in {str(run.id) for run in runs}


@pytest.mark.parametrize("table", ["actions", "callbacks"])
def test_an_action_that_was_fixed_meanwhile_stays_on(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]], table: str
) -> None:
    """Fails when an attempt at the old address, still under way, switches off what its user has
    just fixed.
    """
    world.action()
    (run,) = claim()
    world.do(f"UPDATE {table} SET updated_at = clock_timestamp()")
    (execution,) = run.executions
    execution.finish(Outcome(success=False, code="http_410", error="gone", status_code=410, gone=True))
    journal.flush([Entry(run, changed=(execution,), end=Settled(False, 410, {"reason": None}))])
    assert world.ask("SELECT enabled FROM actions") == [(True,)]


def test_an_entry_written_twice_stands_once_in_the_history(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """The answer to a commit was lost, so the entry is written again.

    Fails when it is added again.
    """
    world.action()
    (run,) = claim()
    (execution,) = run.executions
    failed = Outcome(success=False, code="http_503", error="busy", status_code=503, retryable=True)
    execution.retry(failed, 5, Again(60.0), database_clock.now())
    for _ in range(2):
        journal.flush([Entry(run, changed=(execution,))])
    ((history,),) = world.ask("SELECT history FROM action_executions")
    assert [(entry["attempt"], entry["outcome"]) for entry in history] == [(1, "http_503")]


def test_releasing_makes_what_was_running_pending(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    world.action()
    (run,) = claim()
    later(journal.write, Entry(run, end=Released("released"))).result(5)
    row = world.run(run.id)
    assert row is not None
    assert (row["status"], row["worker_id"]) == ("PENDING", None)
    (kept,) = world.executions(run.id)
    assert (kept["status"], [h["outcome"] for h in kept["history"]]) == ("PENDING", ["released"])


def test_a_release_behind_a_park_leaves_the_retrys_time(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """Fails when the release does not look at the status: both may share a batch at the end of a
    drain.
    """
    world.action()
    (run,) = claim()
    (execution,) = run.executions
    failed = Outcome(success=False, code="x", error="x", retryable=True)
    execution.retry(failed, 7, Again(60.0), run.trigger.received_at)
    journal.flush([Entry(run, changed=(execution,), end=Parked(60.0)), Entry(run, end=Released("released"))])
    assert world.ask("SELECT hint_at = due_at, hint_at > now() + interval '50 s' FROM runs") == [(True, True)]


def test_starting_a_later_step_reads_its_actions_anew(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    world.action(0)
    fixed, same = world.action(1, parallel=True), world.action(1, parallel=True)
    disabled, deleted = world.action(2, parallel=True), world.action(3, parallel=True)
    (run,) = claim()
    world.do("UPDATE actions SET config = %s WHERE id = %s", FIXED, fixed)
    world.do("UPDATE actions SET enabled = false WHERE id = %s", disabled)
    world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", deleted)
    first, *rest = run.executions
    first.finish(OK)

    started = later(journal.write, Entry(run, changed=(first,), starting=tuple(rest))).result(5)

    assert not isinstance(started, ClaimLost)
    assert started[same] is None
    changed = {one: fate for one, fate in started.items() if isinstance(fate, ActionRecord)}
    assert {one: action.config["url"] for one, action in changed.items()} == {fixed: "http://fixed/"}
    refusals = {one: fate.code for one, fate in started.items() if isinstance(fate, Outcome)}
    assert refusals == {disabled: "action_disabled", deleted: "action_deleted"}
    states = {UUID(r["action_id"]): (r["status"], r["error"]) for r in world.executions(run.id)}
    assert states[same] == ("RUNNING", None)
    assert states[fixed] == ("PENDING", None), "it was prepared from what it is no more"
    assert states[disabled][0] == "FAILED"
    assert states[disabled][1].startswith("action_disabled: ")
    assert states[deleted][1].startswith("action_deleted: ")
    assert run.executions[0].status is Status.SUCCESS


def test_what_preparing_has_ended_ends_only_if_its_action_is_still_the_same(
    world: World, journal: Journal, claim: Callable[..., list[HeldRun]]
) -> None:
    """Fails when what was read at the claim ends what its user has fixed since."""
    world.action(0)
    fixed, same, skipped = (world.action(1, parallel=True) for _ in range(3))
    (run,) = claim()
    world.do("UPDATE actions SET config = %s WHERE id = %s", FIXED, fixed)
    _, *rest = run.executions
    for execution in rest:
        execution.prepared = Outcome.permanent("bad_config", "No.")
        if execution.action_id == skipped:
            execution.prepared = Outcome(success=True, code="skipped", response={"because": "no"})

    fates = later(journal.write, Entry(run, starting=tuple(rest))).result(5)

    assert not isinstance(fates, ClaimLost)
    assert isinstance(fates[fixed], ActionRecord)
    assert (fates[same], fates[skipped]) == (None, None)
    rows = {UUID(r["action_id"]): r for r in world.executions(run.id)}
    assert [(r["status"], r["error"], r["response"]) for r in (rows[fixed], rows[same], rows[skipped])] == [
        ("PENDING", None, None),
        ("FAILED", "bad_config: No.", None),
        ("SUCCESS", None, {"because": "no"}),
    ]
    assert [r["attempt"] for r in (rows[fixed], rows[same], rows[skipped])] == [0, 0, 0]
    world.do("UPDATE runs SET claim = claim + 1")
    assert isinstance(later(journal.write, Entry(run, starting=tuple(rest))).result(5), ClaimLost)


def test_what_a_commit_without_an_answer_has_ended_does_not_start_on_its_repetition(
    world: World,
    journal: Journal,
    claim: Callable[..., list[HeldRun]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when it is sent under a row that says how it ended."""
    world.action(0)
    fixed, same = (world.action(1, parallel=True) for _ in range(2))
    (run,) = claim()
    _, *rest = run.executions
    for execution in rest:
        execution.prepared = Outcome.permanent("bad_config", "No: nothing.")
    entry = Entry(run, starting=tuple(rest))
    commit = Transaction.commit

    def commit_unheard(statements: Transaction) -> None:
        commit(statements)
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(Transaction, "commit", commit_unheard)
    with pytest.raises(psycopg2.OperationalError):
        journal.flush([entry])
    monkeypatch.undo()
    world.do("UPDATE actions SET config = %s WHERE id = %s", FIXED, fixed)

    (fates,) = journal.flush([entry])

    assert not isinstance(fates, ClaimLost)
    for action_id in (fixed, same):
        fate = fates[action_id]
        assert isinstance(fate, Outcome)
        assert (fate.success, fate.code, fate.error) == (False, "bad_config", "No: nothing.")
    assert [row["status"] for row in world.executions(run.id)] == ["RUNNING", "FAILED", "FAILED"]


class AwayAtFirst(OwnedConnection):
    """PostgreSQL is away for the first few attempts to reach it."""

    failures = 3

    def get(self) -> WatchedConnection:
        if self.failures:
            self.failures -= 1
            raise psycopg2.OperationalError("the database system is starting up")
        return super().get()


def test_results_outlive_an_outage_of_postgres(world: World, claim: Callable[..., list[HeldRun]]) -> None:
    """Fails when the journal is not patient: three failures in a row are more than one
    repetition.
    """
    world.action()
    (run,) = claim()
    journal = Journal(world.database_url)
    journal._connection = AwayAtFirst(world.database_url, "journal", call_seconds=5)
    journal.start()
    assert later(journal.write, finished(run)).result(15) == {}
    journal.stop(5)
    assert world.run(run.id) is None
