"""What a run does next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.ids import new_id
from worker.actions.contract import Action
from worker.engine.state import Execution, Status
from worker.engine.steps import Attempt, Park, Settle, Stop, assign_steps, next_move

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def new_action(order: int = 0, parallel: bool = False, stops: bool = True, key: UUID | None = None) -> Action:
    return Action(
        id=key or new_id(),
        callback_id=UUID(int=1),
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
    action: Action | None = None,
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
    assert next_move([failed, behind], NOW) == Attempt((behind,))
    behind.status = Status.SUCCESS
    assert next_move([failed, behind], NOW) == Settle(success=False)


def test_a_deleted_action_stops_nothing() -> None:
    failed, behind = new_execution(0, Status.FAILED), new_execution(1, Status.PENDING)
    failed.action = None
    assert next_move([failed, behind], NOW) == Attempt((behind,))


def test_what_is_due_goes_now_although_a_sibling_waits() -> None:
    due, waiting = (
        new_execution(0, Status.PENDING, wait_seconds=0),
        new_execution(0, Status.PENDING, wait_seconds=9),
    )
    assert next_move([due, waiting], NOW) == Attempt((due,))


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
