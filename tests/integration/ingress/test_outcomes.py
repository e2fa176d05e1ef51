"""Waiting for the end of triggers, on a real PostgreSQL and a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from uuid import UUID

import pytest

from api.ingress import outcomes as module
from api.ingress.outcomes import Outcomes, TriggerOutcome
from shared.errors import Unavailable
from shared.ids import new_id
from shared.redis.settlements import Announcer, Listener
from tests.world import World

OWNER = new_id()

MAX_WAITERS = 3


@pytest.fixture
def outcomes(world: World) -> Iterator[Outcomes]:
    outcomes = Outcomes(world.database_url, MAX_WAITERS)
    outcomes.start()
    yield outcomes
    outcomes.stop()


def settle(world: World, trigger_id: UUID, *, success: bool = True) -> None:
    world.do("DELETE FROM runs WHERE trigger_id = %s", trigger_id)
    names = {"callback_id": world.callback_id, "user_id": world.user_id}
    world.rows.insert("logs", id=trigger_id, event="trigger.settled", success=success, **names)


def waiting(outcomes: Outcomes, trigger_id: UUID) -> Future[TriggerOutcome]:
    future = outcomes.wait(trigger_id, new_id(), 30)
    assert future is not None
    return future


def test_how_far_a_trigger_is_can_be_asked(world: World, outcomes: Outcomes) -> None:
    pending, failed = world.trigger(), world.trigger()
    settle(world, failed, success=False)
    assert outcomes.ask(pending).result(5) == TriggerOutcome("PENDING")
    assert outcomes.ask(failed).result(5).status == "FAILED"
    assert outcomes.ask(new_id()).result(5) == TriggerOutcome()


def test_an_outcome_tells_of_each_execution_and_of_no_secrets(world: World, outcomes: Outcomes) -> None:
    trigger_id = world.trigger()
    world.rows.insert(
        "action_executions",
        trigger_id=trigger_id,
        status="FAILED",
        attempt=2,
        error="http_500: https://user:pass@internal/ said no",
        response='{"statusCode": 500, "body": "secret"}',
    )
    settle(world, trigger_id, success=False)
    (execution,) = outcomes.ask(trigger_id).result(5).executions
    assert (execution["status"], execution["attempt"], execution["statusCode"]) == ("FAILED", 2, 500)
    assert execution["code"] == "http_500"
    assert "secret" not in str(execution)
    assert "pass" not in str(execution)


def test_a_waiter_is_told_as_soon_as_redis_tells(world: World, redis_url: str, outcomes: Outcomes) -> None:
    """Each time. Fails without the announcement: the waiter would be told a second later."""
    announcer, listener = Announcer(redis_url), Listener(redis_url, outcomes.settled)
    announcer.start()
    listener.start()
    took = []
    for _ in range(5):
        trigger_id = world.trigger()
        future = waiting(outcomes, trigger_id)
        time.sleep(0.15)  # behind the look that the first waiter causes
        settle(world, trigger_id)
        announcer.tell(trigger_id)
        started = time.monotonic()
        assert future.result(5).status == "SUCCESS"
        took.append(time.monotonic() - started)
    announcer.stop()
    listener.stop()
    assert max(took) < module.LOOK_SECONDS / 2


def test_without_redis_the_rows_tell(world: World, outcomes: Outcomes) -> None:
    trigger_id = world.trigger()
    future = waiting(outcomes, trigger_id)
    settle(world, trigger_id)
    assert future.result(5).settled


def test_what_is_only_said_to_have_settled_is_not_believed(world: World, outcomes: Outcomes) -> None:
    trigger_id = world.trigger()
    future = waiting(outcomes, trigger_id)
    outcomes.settled([trigger_id])
    with pytest.raises(TimeoutError):
        future.result(0.5)


def test_no_more_wait_than_the_bound(world: World, outcomes: Outcomes) -> None:
    futures = [waiting(outcomes, world.trigger()) for _ in range(MAX_WAITERS)]
    assert outcomes.wait(new_id(), new_id(), 1) is None
    futures[0].cancel()
    assert outcomes.wait(new_id(), new_id(), 1) is not None, "who gave up makes room"


def test_a_waiter_that_everybody_has_forgotten_leaves(
    world: World, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a request that was abandoned before its wait began keeps its place for ever."""
    monkeypatch.setattr(module, "FORGOTTEN_SECONDS", 0.0)
    future = outcomes.wait(world.trigger(), OWNER, 0.1)
    assert future is not None
    assert outcomes.wait(world.trigger(), OWNER, 0.1) is None, "one tenant has one of three places"
    assert future.result(5) == TriggerOutcome("PENDING")
    assert outcomes.wait(world.trigger(), OWNER, 0.1) is not None


def test_an_outage_of_postgresql_ends_questions_and_not_waits(world: World, outcomes: Outcomes) -> None:
    trigger_id = world.trigger()
    future = waiting(outcomes, trigger_id)
    outcomes.ask(trigger_id).result(5)
    world.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pointsman outcomes'"
    )
    with pytest.raises(Unavailable):
        outcomes.ask(trigger_id).result(5)
    settle(world, trigger_id)
    assert future.result(5).settled


def test_stop_lets_everybody_go(world: World) -> None:
    outcomes = Outcomes(world.database_url, MAX_WAITERS)
    outcomes.start()
    future = waiting(outcomes, world.trigger())
    outcomes.stop()
    assert future.result(1) == TriggerOutcome("PENDING")
    assert outcomes.wait(new_id(), new_id(), 1) is None
    with pytest.raises(Unavailable):
        outcomes.ask(new_id()).result(1)


def test_no_tenant_takes_all_places(world: World) -> None:
    """Fails when whoever knows one public trigger URL can keep everybody else from waiting."""
    outcomes = Outcomes(world.database_url, max_waiters=8)
    taken = [outcomes.wait(new_id(), OWNER, 30) for _ in range(3)]
    assert [one is not None for one in taken] == [True, True, False]
    assert outcomes.wait(new_id(), new_id(), 30) is not None
    assert taken[0] is not None
    taken[0].cancel()
    assert outcomes.wait(new_id(), OWNER, 30) is not None, "who gave up makes room"
    outcomes.stop()


def test_stop_and_a_look_may_end_the_same_wait(world: World, outcomes: Outcomes) -> None:
    """Fails when the second of them raises: a stop would leave queued triggers and hints behind."""
    for _ in range(50):
        trigger_id = world.trigger()
        future = outcomes.wait(trigger_id, new_id(), 30)
        assert future is not None
        outcomes.settled([trigger_id])
        future.cancel()
    last = outcomes.wait(world.trigger(), new_id(), 30)
    outcomes.stop()
    assert last is not None
    assert last.result(1).status == "PENDING"
