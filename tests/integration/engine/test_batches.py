"""What belongs to a trigger stays with it when two tenants share a claim and a journal batch."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from shared.clock import database_clock
from shared.ids import new_id
from tests.world import World
from worker.actions.contract import Outcome
from worker.engine.claim import Claimer
from worker.engine.entry import Entry, Parked, Settled
from worker.engine.journal import Journal
from worker.engine.retry import Again
from worker.engine.state import HeldRun

COUNT = 6


def recorded(tenant: World, number: int) -> UUID:
    """A trigger that has nothing in common with those of other numbers, with its run."""
    trigger_id, names = new_id(), {"callback_id": tenant.callback_id, "user_id": tenant.user_id}
    tenant.rows.insert(
        "triggers",
        id=trigger_id,
        method="PUT" if number % 3 else "POST",
        path=f"/t/{number}",
        query=f"n={number}",
        headers=json.dumps([["n", str(number)]]),
        content_type=f"text/{number}",
        body=b"\x00%d" % number,
        **names,
    )
    tenant.rows.insert("runs", trigger_id=trigger_id, awaited=number % 4 == 0, **names)
    return trigger_id


@pytest.fixture
def tenants(world: World, stranger: World) -> list[World]:
    """The tenant of each number, in turn. Each has a pair of actions."""
    for tenant in (world, stranger):
        for order in range(2):
            tenant.action(order, parallel=True, config=json.dumps({"url": f"http://{tenant.user_id}/"}))
    return [(world, stranger)[number % 2] for number in range(COUNT)]


@pytest.fixture
def runs(tenants: list[World], claimer: Claimer) -> list[HeldRun]:
    """Claimed together, in the order of their numbers."""
    ids = [recorded(tenant, number) for number, tenant in enumerate(tenants)]
    claimed = {run.id: run for run in claimer.claim(new_id(), ids)}
    return [claimed[trigger_id] for trigger_id in ids]


def test_a_claim_gives_each_run_its_own_trigger_callback_and_actions(
    tenants: list[World], runs: list[HeldRun]
) -> None:
    """Fails when one thing of a run is taken from its neighbour: a tenant would send another's
    body.
    """
    for number, (tenant, run) in enumerate(zip(tenants, runs, strict=True)):
        trigger, callback = run.trigger, run.callback
        assert (trigger.callback_id, trigger.user_id) == (tenant.callback_id, tenant.user_id)
        assert (trigger.method, trigger.path) == ("PUT" if number % 3 else "POST", f"/t/{number}")
        assert (trigger.query, json.loads(trigger.headers)) == (f"n={number}", [["n", str(number)]])
        assert (trigger.content_type, trigger.body) == (f"text/{number}", b"\x00%d" % number)
        assert run.awaited == (number % 4 == 0)
        assert callback is not None
        assert (callback.id, callback.user_id) == (tenant.callback_id, tenant.user_id)
        urls = {e.action.config["url"] for e in run.executions if e.action is not None}
        assert urls == {f"http://{tenant.user_id}/"}
        rows = tenant.executions(run.id)
        assert {(row["callback_id"], row["user_id"]) for row in rows} == {
            (str(tenant.callback_id), str(tenant.user_id))
        }
        assert {row["id"] for row in rows} == {str(e.id) for e in run.executions}


def outcome(number: int, side: int) -> Outcome:
    """How the attempt of an execution ended; the odd ones fail."""
    status, name = 200 + 10 * number + side, f"{number}.{side}"
    response = {"statusCode": status, "body": name}
    if number % 2 == 0:
        return Outcome(success=True, status_code=status, response=response)
    code, error = f"code {name}", f"error {name}"
    return Outcome(
        success=False, code=code, error=error, retryable=True, status_code=status, response=response
    )


def stored(tenant: World, run: HeldRun) -> list[dict[str, Any]]:
    """The rows of a run's executions, in the order in which it has them."""
    rows = {row["id"]: row for row in tenant.executions(run.id)}
    return [rows[str(execution.id)] for execution in run.executions]


def test_a_journal_batch_writes_each_result_to_its_own_execution(
    tenants: list[World], runs: list[HeldRun], journal: Journal
) -> None:
    """Fails when one column of the batch is in another order than the ids."""
    entries = []
    for number, run in enumerate(runs):
        for side, execution in enumerate(run.executions):
            execution.finish(outcome(number, side), 100 * number + side)
        end = Settled(number % 2 == 0, 200 + number, {"reason": f"reason {number}"})
        entries.append(Entry(run, changed=tuple(run.executions), end=end))

    assert journal.flush(entries) == [{}] * COUNT

    for number, (tenant, run) in enumerate(zip(tenants, runs, strict=True)):
        for side, row in enumerate(stored(tenant, run)):
            expected = outcome(number, side)
            assert (row["response"], row["duration_ms"]) == (expected.response, 100 * number + side)
            assert row["status"] == ("SUCCESS" if expected.success else "FAILED")
            assert row["error"] == (None if expected.success else f"{expected.code}: {expected.error}")
            assert row["attempt"] == 1
        log = tenant.log(run.id)
        assert log is not None
        assert (log["success"], log["status_code"]) == (number % 2 == 0, 200 + number)
        assert log["details"]["reason"] == f"reason {number}"
        assert (log["callback_id"], log["user_id"]) == (str(tenant.callback_id), str(tenant.user_id))


def test_a_journal_batch_gives_each_retry_its_own_history_and_time(
    tenants: list[World], runs: list[HeldRun], journal: Journal
) -> None:
    entries = []
    for number, run in enumerate(runs):
        for side, execution in enumerate(run.executions):
            delay = 1_000 * number + 100 * side + 500
            execution.retry(
                outcome(1 + 2 * number, side), 10 * number + side, Again(delay), database_clock.now()
            )
        entries.append(Entry(run, changed=tuple(run.executions), end=Parked(1_000 * number + 500)))

    journal.flush(entries)

    waits = (
        "SELECT extract(epoch FROM next_attempt_at - updated_at)::int FROM action_executions WHERE id = %s"
    )
    for number, (tenant, run) in enumerate(zip(tenants, runs, strict=True)):
        for side, row in enumerate(stored(tenant, run)):
            ended = outcome(1 + 2 * number, side)
            (entry,) = row["history"]
            assert (entry["outcome"], entry["statusCode"]) == (ended.code, ended.status_code)
            assert (entry["durationMs"], entry["error"]) == (
                10 * number + side,
                f"{ended.code}: {ended.error}",
            )
            assert tenant.ask(waits, row["id"]) == [(1_000 * number + 100 * side + 500,)]
        due = tenant.ask(
            "SELECT extract(epoch FROM due_at - now()) / 100 FROM runs WHERE trigger_id = %s", run.id
        )
        assert round(due[0][0]) == 10 * number + 5
