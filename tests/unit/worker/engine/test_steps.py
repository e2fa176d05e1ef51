"""What a run does next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.steps import assign_steps
from shared.ids import new_id
from worker.engine.state import Execution, Status
from worker.engine.steps import Attempt, Park, Settle, Stop, next_move
from worker.records import ActionRecord

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def new_action(
    order: int = 0, parallel: bool = False, stops: bool = True, key: UUID | None = None
) -> ActionRecord:
    return ActionRecord(
        id=key or new_id(),
        callback_id=UUID(int=1),
        callback_url="http://callback.example/",
        type="HTTP_POST",
        name=None,
        order=order,
        parallel=parallel,
        enabled=True,
        stops_on_failure=stops,
        config={},
        retry=None,
    )


def new_execution(
    step: int,
    status: Status,
    stops: bool = True,
    wait_seconds: float | None = None,
    action: ActionRecord | None = None,
) -> Execution:
    return Execution(
        id=new_id(),
        action_id=new_id(),
        type="HTTP_POST",
        step=step,
        status=status,
        attempt=1,
        action=action or new_action(stops=stops),
        next_attempt_at=None if wait_seconds is None else NOW + timedelta(seconds=wait_seconds),
    )


def steps_of(*parallels: bool) -> list[int]:
    actions = [new_action(order, parallel) for order, parallel in enumerate(parallels)]
    return [step for _, step in assign_steps(actions)]


def test_consecutive_parallel_actions_are_one_step() -> None:
    assert steps_of() == []
    assert steps_of(False, False) == [0, 1]
    assert steps_of(True, True, True) == [0, 0, 0]
    assert steps_of(False, True, True, False, True, True) == [0, 1, 1, 2, 3, 3]
    assert steps_of(True, False, True) == [0, 1, 2]


def test_equal_orders_go_by_id() -> None:
    low, high = UUID(int=1), UUID(int=2)
    ordered = assign_steps([new_action(5, key=high), new_action(5, key=low)])
    assert [action.id for action, _ in ordered] == [low, high]


def test_a_failure_that_stops_ends_the_rest_only_after_its_siblings_have_ended() -> None:
    failed, sibling = new_execution(0, Status.FAILED), new_execution(0, Status.PENDING, wait_seconds=60)
    behind = new_execution(1, Status.PENDING)
    assert next_move([failed, sibling, behind], NOW) == Park(NOW + timedelta(seconds=60))
    sibling.status, sibling.next_attempt_at = Status.SUCCESS, None
    assert next_move([failed, sibling, behind], NOW) == Stop((behind,))
    behind.status = Status.FAILED
    assert next_move([failed, sibling, behind], NOW) == Settle(success=False)


def test_a_failure_with_continue_goes_on_but_fails_the_trigger() -> None:
    failed, behind = new_execution(0, Status.FAILED, stops=False), new_execution(1, Status.PENDING)
    assert next_move([failed, behind], NOW) == Attempt((behind,), (behind,))
    behind.status = Status.SUCCESS
    assert next_move([failed, behind], NOW) == Settle(success=False)


def test_a_deleted_action_stops_nothing() -> None:
    failed, behind = new_execution(0, Status.FAILED), new_execution(1, Status.PENDING)
    failed.action = None
    assert next_move([failed, behind], NOW) == Attempt((behind,), (behind,))


def test_what_is_due_goes_now_although_a_sibling_waits() -> None:
    due, waiting = (
        new_execution(0, Status.PENDING, wait_seconds=0),
        new_execution(0, Status.PENDING, wait_seconds=9),
    )
    assert next_move([due, waiting], NOW) == Attempt((due,), (due, waiting))


def test_parking_is_until_the_earliest_retry() -> None:
    waits = [new_execution(0, Status.PENDING, wait_seconds=seconds) for seconds in (30, 10, 20)]
    assert next_move(waits, NOW) == Park(NOW + timedelta(seconds=10))


def test_nothing_to_do_is_a_success() -> None:
    assert next_move([], NOW) == Settle(success=True)


executions = st.builds(
    new_execution,
    st.integers(0, 4),
    st.sampled_from([Status.PENDING, Status.SUCCESS, Status.FAILED]),
    st.booleans(),
    st.sampled_from([None, -1.0, 5.0]),
)


@given(st.lists(executions, max_size=8))
def test_no_step_starts_before_the_one_before_it_is_settled(given_executions: list[Execution]) -> None:
    """And every mix of rows leads to an end: each move settles something or waits."""
    for _ in range(50):
        move = next_move(given_executions, NOW)
        match move:
            case Attempt(started):
                (step,) = {execution.step for execution in started}
                before = [e for e in given_executions if e.step < step]
                assert all(e.ended for e in before)
                assert not any(e.status is Status.FAILED and e.stops_on_failure for e in before)
                for execution in started:
                    execution.status = Status.SUCCESS
            case Stop(rest):
                assert not any(e.ended for e in rest)
                for execution in rest:
                    execution.status = Status.FAILED
            case Park(until):
                assert until > NOW
                for execution in given_executions:
                    execution.next_attempt_at = None
            case Settle(success):
                assert all(e.ended for e in given_executions)
                assert success == all(e.status is Status.SUCCESS for e in given_executions)
                return
    raise AssertionError("it never settles")


actions = st.builds(
    new_action,
    st.integers(0, 3),
    st.booleans(),
    key=st.integers(0, 2**64).map(lambda number: UUID(int=number)),
)


@given(st.lists(actions, max_size=8, unique_by=lambda action: action.id), st.randoms())
def test_steps_are_maximal_runs_of_parallel_actions_in_whatever_order_the_rows_come(
    given_actions: list[ActionRecord], shuffle: Random
) -> None:
    assigned = assign_steps(given_actions)
    assert [action for action, _ in assigned] == sorted(given_actions, key=lambda a: (a.order, a.id))
    for (before, step), (after, next_step) in pairwise(assigned):
        together = before.parallel and after.parallel
        assert next_step == step + (not together)
    assert [step for _, step in assigned[:1]] in ([], [0])
    shuffle.shuffle(given_actions)
    assert assign_steps(given_actions) == assigned


@pytest.mark.parametrize("status", [Status.NEW, Status.PENDING, Status.RUNNING])
def test_what_has_not_ended_is_attempted_and_a_time_that_has_come_is_due(status: Status) -> None:
    for wait in (None, -1.0, 0.0):
        one, behind = new_execution(0, status, wait_seconds=wait), new_execution(1, Status.NEW)
        assert next_move([behind, one], NOW) == Attempt((one,), (one,))


def test_a_run_waits_for_the_earliest_retry_of_its_own_step_only() -> None:
    later = new_execution(0, Status.PENDING, wait_seconds=60)
    behind = new_execution(1, Status.PENDING, wait_seconds=5)
    assert next_move([behind, later], NOW) == Park(NOW + timedelta(seconds=60))


def test_a_step_whose_failures_continue_does_not_hide_one_that_stops() -> None:
    """Fails when only the first, or only the last, failure of a step is looked at."""
    behind = new_execution(1, Status.PENDING)
    for stops in ([True, False], [False, True]):
        group = [new_execution(0, Status.FAILED, stops) for stops in stops]
        assert next_move([*group, behind], NOW) == Stop((behind,))


def test_a_failure_stops_every_step_behind_it_and_nothing_before() -> None:
    first, failed = new_execution(0, Status.SUCCESS), new_execution(1, Status.FAILED)
    behind = [new_execution(step, Status.PENDING, wait_seconds=60) for step in (2, 2, 3)]
    assert next_move([first, failed, *behind], NOW) == Stop(tuple(behind))


class Story:
    """A run carried to its end by next_move() alone; each execution ends as it was told beforehand.

    told: for each execution, by its id, what its attempts bring: False asks for a retry, True ends
    it.
    """

    def __init__(self, rows: list[Execution], retries: list[int], ends: list[bool]) -> None:
        self.rows = rows
        self.told = {
            row.id: ([False] * count, end) for row, count, end in zip(rows, retries, ends, strict=False)
        }
        self.now = NOW
        self.attempted: list[int] = []

    def carry(self, interrupt: Callable[[], bool], shuffle: Random) -> dict[UUID, Status]:
        for _ in range(200):
            move = next_move(self.rows, self.now)
            match move:
                case Attempt(due):
                    self._attempt(due, interrupt)
                case Stop(rest):
                    self._check_stopped(rest)
                    for row in rest:
                        row.status, row.next_attempt_at = Status.FAILED, None
                case Park(until):
                    assert until > self.now
                    self.now = until
                case Settle(success):
                    assert success == all(row.status is Status.SUCCESS for row in self.rows)
                    return {row.id: row.status for row in self.rows}
            # what another worker would find: the rows alone, in whatever order
            self.rows = [replace(row, status=_as_stored(row.status)) for row in self.rows]
            shuffle.shuffle(self.rows)
        raise AssertionError("it never settles")

    def _attempt(self, due: tuple[Execution, ...], interrupt: Callable[[], bool]) -> None:
        (step,) = {row.step for row in due}
        assert all(row.ended for row in self.rows if row.step < step), "an earlier step is still open"
        assert not any(
            row.status is Status.FAILED and row.stops_on_failure for row in self.rows if row.step < step
        ), "an earlier step stopped the run"
        assert all(row.next_attempt_at is None or row.next_attempt_at <= self.now for row in due)
        self.attempted.append(step)
        for row in due:
            row.status = Status.RUNNING
            if interrupt():
                continue  # the worker is gone: the attempt is void and comes again
            waits, end = self.told[row.id]
            if waits:
                waits.pop()
                row.status, row.next_attempt_at = Status.PENDING, self.now + timedelta(seconds=7)
            else:
                row.status, row.next_attempt_at = (Status.SUCCESS if end else Status.FAILED), None

    def _check_stopped(self, rest: tuple[Execution, ...]) -> None:
        culprits = [r.step for r in self.rows if r.status is Status.FAILED and r.stops_on_failure]
        assert min(row.step for row in rest) > min(culprits)
        siblings = [row for row in self.rows if row.step <= min(culprits)]
        assert all(row.ended for row in siblings), "siblings finish their own retries first"


def _as_stored(status: Status) -> Status:
    return Status.PENDING if status is Status.RUNNING else status


fresh_runs = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 2), st.booleans()), max_size=6
)


@given(fresh_runs, st.lists(st.booleans(), max_size=12), st.randoms())
def test_a_run_that_was_interrupted_anywhere_ends_like_one_that_was_not(
    told: list[tuple[int, bool, int, bool]], interruptions: list[bool], shuffle: Random
) -> None:
    """First run, retry, crash recovery and replay are the same question put to the same rows."""
    rows = [new_execution(step, Status.NEW, stops) for step, stops, _, _ in told]
    retries, ends = [count for _, _, count, _ in told], [end for _, _, _, end in told]
    undisturbed = Story([replace(row) for row in rows], retries, ends)
    disturbed = Story([replace(row) for row in rows], retries, ends)
    left = list(interruptions)
    end = undisturbed.carry(lambda: False, shuffle)
    assert disturbed.carry(lambda: bool(left) and left.pop(), shuffle) == end
    for story in (undisturbed, disturbed):
        assert story.attempted == sorted(story.attempted), "steps never go back"


@given(fresh_runs)
def test_a_stop_ends_exactly_what_is_behind_it(told: list[tuple[int, bool, int, bool]]) -> None:
    rows = [new_execution(step, Status.NEW, stops) for step, stops, _, _ in told]
    story = Story(rows, [0] * len(told), [end for _, _, _, end in told])
    ended = story.carry(lambda: False, Random(0))
    stopped_at = min((step for step, stops, _, end in told if stops and not end), default=99)
    for row, (step, _, _, end) in zip(rows, told, strict=True):
        wanted = Status.SUCCESS if end and step <= stopped_at else Status.FAILED
        assert ended[row.id] is wanted
    assert all(step <= stopped_at for step in story.attempted)
