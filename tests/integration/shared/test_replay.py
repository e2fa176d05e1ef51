"""Replays and cancelling on a real PostgreSQL, claimed as a worker would."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from psycopg2.errors import UniqueViolation

from shared.ids import new_id
from shared.runs.replay import Start, replay
from shared.runs.settle import Settlement, cancel, settle
from tests.loops import later
from tests.world import World
from worker.actions.contract import Outcome
from worker.engine.claim import Claimer
from worker.engine.entry import Entry, Settled
from worker.engine.journal import Journal
from worker.engine.state import HeldRun

GOOD = Outcome(success=True, code="ok", response={"statusCode": 200, "body": "kept"})
BAD = Outcome.permanent("http_400", "no")


@pytest.fixture
def settled(world: World, claimer: Claimer, journal: Journal) -> UUID:
    """A trigger of a parallel pair, of which the second failed, and a tail that did not run."""
    world.action(0, parallel=True)
    world.action(1, parallel=True)
    world.action(2)
    trigger_id = world.trigger()
    (run,) = claimer.claim(new_id(), [trigger_id])
    first, second, tail = run.executions
    first.finish(GOOD, 5)
    second.finish(BAD, 6)
    tail.finish(Outcome.permanent("earlier_step_failed", "did not run"))
    end = Settled(success=False, status_code=400, details={})
    later(journal.write, Entry(run, changed=(first, second, tail), end=end)).result(5)
    return trigger_id


def claim_again(world: World, claimer: Claimer, trigger_id: UUID, start: Start, **options: Any) -> HeldRun:
    renewed = replay(world.cursor, world.user_id, [trigger_id], start, **options)
    (run,) = claimer.claim(new_id(), list(renewed.values()))
    return run


def states(world: World, run: HeldRun) -> list[tuple[int, str, int]]:
    return [(row["step"], row["status"], row["attempt"]) for row in world.executions(run.id)]


def test_a_replay_from_what_failed_keeps_what_succeeded(
    world: World, claimer: Claimer, settled: UUID
) -> None:
    world.do('UPDATE actions SET "order" = 9 - "order"')
    run = claim_again(world, claimer, settled, "failed")
    assert sorted(states(world, run)) == [(0, "RUNNING", 1), (0, "SUCCESS", 1), (1, "PENDING", 0)]
    (kept,) = [row for row in world.executions(run.id) if row["status"] == "SUCCESS"]
    assert kept["response"] == {"statusCode": 200, "body": "kept"}
    assert world.ask("SELECT replay_of FROM triggers WHERE id = %s", run.id) == [(settled,)]
    assert not {row["id"] for row in world.executions(run.id)} & {
        row["id"] for row in world.executions(settled)
    }


_CALLS = """
SELECT callback_id, user_id, method, path, query, headers, content_type, body, source_ip FROM triggers
WHERE id = ANY(%s::uuid[]) ORDER BY array_position(%s::uuid[], id)
"""


@pytest.mark.parametrize("start", ["failed", "start"])
def test_a_replay_repeats_the_whole_call(world: World, settled: UUID, start: Start) -> None:
    """Fails when something of a call is lost or another's, as its content type."""
    old = [settled]
    for number in range(3):
        names = {"callback_id": world.callback_id, "user_id": world.user_id}
        call: dict[str, Any] = {
            "method": "PUT",
            "path": f"/t/{number}",
            "query": f"n={number}",
            "source_ip": f"10.0.0.{number}",
            "headers": f'[["n", "{number}"]]',
            "content_type": f"text/{number}",
            "body": b"\x00%d" % number,
        }
        old.append(UUID(world.rows.insert("triggers", **names, **call)["id"]))
        world.rows.insert("logs", id=old[-1], success=False, event="trigger.settled", **names)

    renewed = replay(world.cursor, world.user_id, old, start)

    new = [renewed[trigger_id] for trigger_id in old]
    calls = [[(*r[:7], bytes(r[7]), r[8]) for r in world.ask(_CALLS, ids, ids)] for ids in (old, new)]
    assert len(calls[1]) == 4
    assert calls[0] == calls[1]


def test_a_replay_from_the_start_is_made_of_the_actions_as_they_are(
    world: World, claimer: Claimer, settled: UUID
) -> None:
    world.action(3)
    run = claim_again(world, claimer, settled, "start")
    assert sorted(states(world, run)) == [(0, "RUNNING", 1)] * 2 + [(1, "PENDING", 0), (2, "PENDING", 0)]


def test_one_execution_is_retried_alone(world: World, claimer: Claimer, settled: UUID) -> None:
    succeeded, failed, tail = world.executions(settled)
    for chosen in (failed, tail):
        run = claim_again(world, claimer, settled, "failed", only_action=UUID(chosen["action_id"]))
        rows = {row["action_id"]: row["status"] for row in world.executions(run.id)}
        assert rows == {succeeded["action_id"]: "SUCCESS", chosen["action_id"]: "RUNNING"}
    run = claim_again(world, claimer, settled, "failed", only_action=UUID(succeeded["action_id"]))
    assert [row["status"] for row in world.executions(run.id)] == ["RUNNING"]


def test_nothing_of_the_old_trigger_changes(world: World, settled: UUID) -> None:
    before = (world.executions(settled), world.log(settled), world.run(settled))
    replay(world.cursor, world.user_id, [settled], "failed")
    assert (world.executions(settled), world.log(settled), world.run(settled)) == before


def test_a_deleted_action_is_left_out(world: World, claimer: Claimer, settled: UUID) -> None:
    """Fails when its executions are copied: the purge may have passed already."""
    failed = world.executions(settled)[1]
    world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", failed["action_id"])
    run = claim_again(world, claimer, settled, "failed")
    assert failed["action_id"] not in {row["action_id"] for row in world.executions(run.id)}


@pytest.mark.parametrize("chosen", ["all that failed", "one"])
def test_what_only_deleted_actions_could_run_is_not_planned_anew(
    world: World, settled: UUID, chosen: str
) -> None:
    """Fails when a new trigger without executions is taken for a first run: every action would be
    sent again.
    """
    _, failed, tail = world.executions(settled)
    world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", failed["action_id"])
    if chosen == "one":
        only = UUID(failed["action_id"])
        assert replay(world.cursor, world.user_id, [settled], "failed", only_action=only) == {}
    else:
        world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", tail["action_id"])
        assert replay(world.cursor, world.user_id, [settled], "failed") == {}
    assert world.ask("SELECT count(*) FROM runs") == [(0,)]


def test_what_never_had_executions_is_planned_from_the_actions(
    world: World, claimer: Claimer, settled: UUID
) -> None:
    world.do("DELETE FROM action_executions WHERE trigger_id = %s", settled)
    run = claim_again(world, claimer, settled, "failed")
    assert len(states(world, run)) == 3


def test_nobody_replays_what_is_anothers(world: World, settled: UUID) -> None:
    assert replay(world.cursor, new_id(), [settled], "start") == {}


def test_what_moves_or_is_gone_is_not_replayed(world: World, settled: UUID) -> None:
    moving = world.trigger()
    renewed = replay(world.cursor, world.user_id, [moving, settled, new_id()], "start")
    assert list(renewed) == [settled]
    assert world.ask("SELECT count(*) FROM runs") == [(2,)]


class Retention:
    """A cursor beside which retention removes something just before one statement."""

    def __init__(self, cursor: Any, before: str, remove: Callable[[], object]) -> None:
        self._cursor, self._before, self._remove = cursor, before, remove

    def execute(self, statement: str, parameters: Any = None) -> None:
        if self._before in statement:
            self._remove()
        self._cursor.execute(statement, parameters)

    def fetchall(self) -> list[Any]:
        return list(self._cursor.fetchall())


@pytest.mark.parametrize(
    ("before", "table"),
    [
        ("SELECT t.id FROM triggers", "triggers"),
        ("INSERT INTO triggers", "triggers"),
        ("INSERT INTO action_executions", "action_executions"),
    ],
)
def test_retention_against_a_replay_leaves_nothing_half_made(
    world: World, connect: Callable[..., Any], settled: UUID, before: str, table: str
) -> None:
    """What is repeated goes while it is read: either there is a whole replay or none. Fails when a
    new trigger whose executions could not be copied is planned from the actions: what had succeeded
    would be sent again."""
    key = "id" if table == "triggers" else "trigger_id"
    was = world.ask("SELECT count(*) FROM action_executions")
    replaying = connect(autocommit=False)
    with replaying.cursor() as cursor:
        gone = Retention(cursor, before, lambda: world.do(f"DELETE FROM {table} WHERE {key} = %s", settled))
        assert replay(gone, world.user_id, [settled], "failed") == {}
        replaying.commit()
    assert world.ask("SELECT count(*) FROM runs") == [(0,)]
    left = [(0,)] if table == "action_executions" else was
    assert world.ask("SELECT count(*) FROM action_executions") == left
    assert world.ask("SELECT count(*) FROM triggers WHERE replay_of IS NOT NULL") == [(0,)]


def test_a_cancelled_trigger_has_failed_and_says_so(world: World, claimer: Claimer) -> None:
    world.action(0)
    world.action(1)
    trigger_id = world.trigger()
    claimer.claim(new_id(), [trigger_id])

    assert cancel(world.cursor, world.user_id, trigger_id)

    rows = world.executions(trigger_id)
    assert [(row["status"], row["error"].split(":")[0]) for row in rows] == [("FAILED", "cancelled")] * 2
    assert "may have got it" in rows[0]["error"]
    assert "before it ran" in rows[1]["error"]
    log = world.log(trigger_id)
    assert log is not None
    assert (log["success"], log["details"]["reason"], world.run(trigger_id)) == (False, "cancelled", None)
    assert [step["status"] for step in log["details"]["steps"]] == ["FAILED", "FAILED"]
    assert not cancel(world.cursor, world.user_id, trigger_id), "it has settled"


def test_nobody_cancels_what_is_anothers(world: World) -> None:
    assert not cancel(world.cursor, new_id(), world.trigger())
    assert world.ask("SELECT count(*) FROM runs") == [(1,)]


def test_a_result_behind_a_cancel_changes_nothing(world: World, claimer: Claimer, journal: Journal) -> None:
    """Crash point: cancel against finish. Fails without the fence."""
    world.action()
    (run,) = claimer.claim(new_id(), [world.trigger()])
    cancel(world.cursor, world.user_id, run.id)
    run.executions[0].finish(GOOD, 5)
    entry = Entry(run, changed=tuple(run.executions), end=Settled(success=True, status_code=200, details={}))
    assert type(later(journal.write, entry).result(5)).__name__ == "ClaimLost"
    assert [row["status"] for row in world.executions(run.id)] == ["FAILED"]


def test_a_result_that_waits_behind_a_cancel_is_dropped(
    world: World, connect: Callable[..., Any], claimer: Claimer, journal: Journal
) -> None:
    """Crash point: cancel against finish, the cancel first.

    Fails when it lets go of the run before it commits.
    """
    world.action()
    (run,) = claimer.claim(new_id(), [world.trigger()])
    run.executions[0].finish(GOOD, 5)
    entry = Entry(run, changed=tuple(run.executions), end=Settled(success=True, status_code=200, details={}))
    cancelling = connect(autocommit=False)
    with cancelling.cursor() as cursor:
        assert cancel(cursor, world.user_id, run.id)
        written = later(journal.write, entry)
        with pytest.raises(TimeoutError):
            written.result(0.3)
        cancelling.commit()
    assert type(written.result(5)).__name__ == "ClaimLost"
    log = world.log(run.id)
    assert log is not None
    assert log["details"]["reason"] == "cancelled"


def test_a_cancel_that_waits_behind_a_result_finds_nothing_to_cancel(
    world: World, connect: Callable[..., Any]
) -> None:
    """The result first."""
    trigger_id = world.trigger()
    settling, cancelling = connect(autocommit=False), connect()
    found: list[bool] = []
    with settling.cursor() as cursor:
        settle(cursor, [Settlement(trigger_id, success=True, details="{}")])
        thread = threading.Thread(
            target=lambda: found.append(cancel(cancelling.cursor(), world.user_id, trigger_id))
        )
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits"
        settling.commit()
    thread.join(5)
    assert found == [False]
    log = world.log(trigger_id)
    assert log is not None
    assert log["success"] is True


def test_a_second_settle_writes_nothing(world: World) -> None:
    """Crash point: settle repeated.

    Without its run nothing is written; with one, were it there, the key clashes.
    """
    trigger_id = world.trigger()
    for success in (True, False):
        settle(world.cursor, [Settlement(trigger_id, success=success, details="{}")])
    names = {"callback_id": world.callback_id, "user_id": world.user_id}
    world.rows.insert("runs", trigger_id=trigger_id, **names)
    with pytest.raises(UniqueViolation):
        settle(world.cursor, [Settlement(trigger_id, success=False, details="{}")])
    log = world.log(trigger_id)
    assert log is not None
    assert log["success"] is True
