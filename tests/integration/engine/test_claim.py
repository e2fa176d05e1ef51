"""Claims on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.errors
import pytest

from shared.ids import new_id
from shared.postgres.statements import Transaction
from tests.world import World
from worker.engine.claim import Claimer
from worker.engine.room import Room
from worker.engine.state import Status
from worker.engine.waiting import Wanted
from worker.records import CredentialRecord


def test_the_first_claim_makes_all_executions_and_starts_the_first_step(
    world: World, claimer: Claimer
) -> None:
    pair = [world.action(0, parallel=True), world.action(1, parallel=True)]
    tail = world.action(2)
    world.action(3, enabled=False)
    trigger_id = world.trigger()
    me = new_id()

    (run,) = claimer.claim(me, [trigger_id])

    assert (run.claim, run.worker_id, run.doom) == (1, me, None)
    rows = world.executions(trigger_id)
    assert {(UUID(r["action_id"]), r["step"], r["status"], r["attempt"]) for r in rows} == {
        (pair[0], 0, "RUNNING", 1),
        (pair[1], 0, "RUNNING", 1),
        (tail, 1, "PENDING", 0),
    }
    assert {e.id for e in run.executions} == {UUID(r["id"]) for r in rows}
    row = world.run(trigger_id)
    assert row is not None
    assert (row["status"], row["worker_id"], row["claim"]) == ("RUNNING", str(me), 1)


def test_a_first_claim_that_was_lost_gives_the_same_ids_again(world: World, claimer: Claimer) -> None:
    """Fails when an execution's id, which receivers know as `webhook-id`, is made anew at each
    first claim.
    """
    actions = [world.action(order) for order in (2, 0, 1)]
    trigger_id = world.trigger()
    (run,) = claimer.claim(new_id(), [trigger_id])
    first = {e.action_id: e.id for e in run.executions}

    # what a crash of PostgreSQL undoes; and meanwhile one action is deleted, which moves nobody
    # else
    world.do("DELETE FROM action_executions WHERE trigger_id = %s", trigger_id)
    world.do(
        "UPDATE runs SET status = 'PENDING', worker_id = NULL, claim = 0 WHERE trigger_id = %s", trigger_id
    )
    oldest, *others = sorted(actions)
    world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", oldest)
    (run,) = claimer.claim(new_id(), [trigger_id])

    assert {e.action_id: e.id for e in run.executions} == {one: first[one] for one in others}
    assert len(set(first.values())) == 3


def test_an_action_comes_with_its_credential_and_with_nobody_elses(
    world: World, stranger: World, claimer: Claimer
) -> None:
    """Fails when another tenant's credential is read, or an action goes on without the one it
    names.
    """
    mine = world.rows.insert("service_credentials", user_id=world.user_id, secret="sealed:1", meta='{"a": 1}')
    theirs = stranger.rows.insert("service_credentials", user_id=stranger.user_id)
    without = world.action(0)
    with_mine, with_theirs = (world.action(1, credential_id=one["id"]) for one in (mine, theirs))
    of_stranger = stranger.action(0, credential_id=theirs["id"])

    runs = claimer.claim(new_id(), [world.trigger(), stranger.trigger()])

    actions = {e.action_id: e.action for run in runs for e in run.executions if e.action is not None}
    assert actions[without].credential is None
    assert actions[without].flaw is None
    assert actions[with_mine].credential == CredentialRecord(
        UUID(mine["id"]), "TWILIO", "sealed:1", '{"a": 1}'
    )
    assert actions[with_theirs].credential is None
    assert "credential is not there" in str(actions[with_theirs].flaw)
    found = actions[of_stranger].credential
    assert found is not None
    assert (found.id, found.meta) == (UUID(theirs["id"]), "null")


def test_what_is_not_pending_or_not_due_is_left_alone(world: World, claimer: Claimer) -> None:
    world.action()
    running = world.trigger(status="RUNNING")
    later = world.trigger(due_at="2999-01-01")
    assert claimer.claim(new_id(), [running, later, new_id()]) == []


def test_a_row_that_is_locked_is_skipped_not_waited_for(
    world: World, claimer: Claimer, connect: Callable[..., Any]
) -> None:
    world.action()
    locked, free = world.trigger(), world.trigger()
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE trigger_id = %s FOR UPDATE", (locked,))
        assert [run.id for run in claimer.claim(new_id(), [locked, free])] == [free]
    other.rollback()


def test_two_workers_never_claim_the_same_trigger(world: World) -> None:
    """Fails without FOR UPDATE SKIP LOCKED and the check of the status."""
    world.action()
    ids = [world.trigger() for _ in range(40)]
    claimed: list[UUID] = []
    lock = threading.Lock()

    def claim_all() -> None:
        claimer = Claimer(world.database_url, Room(10_000, 10**9, 1))
        for start in range(0, len(ids), 5):
            found = [run.id for run in claimer.claim(new_id(), ids[start : start + 5])]
            with lock:
                claimed.extend(found)
        claimer.close()

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(claimed) == sorted(ids), "each once, and none left"
    assert {row[0] for row in world.ask("SELECT claim FROM runs WHERE status = 'RUNNING'")} <= {1}


def test_one_poisoned_row_among_fifty_fails_alone(world: World, claimer: Claimer) -> None:
    """Fails without the halving: a timestamp that Python cannot hold spoils the whole batch."""
    world.action()
    ids = [world.trigger() for _ in range(51)]
    poisoned = ids[25]
    world.do("UPDATE triggers SET received_at = '294000-01-01' WHERE id = %s", poisoned)

    runs = claimer.claim(new_id(), ids)

    assert {run.id for run in runs} == set(ids) - {poisoned}
    assert world.run(poisoned) is None
    log = world.log(poisoned)
    assert log is not None
    assert (log["success"], log["details"]["reason"]) == (False, "bad_config")
    assert "Set the callback" in log["details"]["error"]


@pytest.mark.parametrize(
    "fault",
    [
        "ALTER TABLE callbacks RENAME COLUMN timeout_duration TO renamed",
        "ALTER TABLE actions RENAME TO renamed",
    ],
)
def test_a_fault_of_the_installation_fails_no_run(world: World, claimer: Claimer, fault: str) -> None:
    """Fails when every error is taken for a row's: a worker older than the schema would fail the
    whole backlog.
    """
    world.action()
    ids = [world.trigger() for _ in range(3)]
    world.do(fault)
    with pytest.raises(psycopg2.ProgrammingError):
        claimer.claim(new_id(), ids)
    assert world.ask("SELECT count(*) FROM runs WHERE status = 'PENDING'") == [(3,)]
    assert world.rows.count("logs") == 0


def test_a_missing_partition_fails_no_run(world: World, claimer: Claimer) -> None:
    world.action()
    trigger_id = world.trigger()
    ((name,),) = world.ask("SELECT 'action_executions_' || to_char(now(), 'YYYYMMDD')")
    world.do(f'DROP TABLE "{name}"')
    with pytest.raises(psycopg2.errors.CheckViolation):
        claimer.claim(new_id(), [trigger_id])
    assert world.run(trigger_id) is not None


def test_what_one_commit_claimed_is_delivered_although_another_fails(world: World, claimer: Claimer) -> None:
    """Fails when everything is handed over at the end: reconcile would call the first half
    stranded.
    """
    world.action()
    ids = [world.trigger() for _ in range(4)]
    world.do("UPDATE triggers SET received_at = '294000-01-01' WHERE id = %s", ids[3])
    delivered: list[list[UUID]] = []
    claimer.claim(new_id(), ids, lambda runs: delivered.append([run.id for run in runs]))
    assert delivered == [ids[:2], [ids[2]]]


def test_a_run_whose_trigger_is_missing_fails_alone(world: World, claimer: Claimer) -> None:
    world.action()
    ids = [world.trigger() for _ in range(5)]
    world.do("DELETE FROM triggers WHERE id = %s", ids[2])
    assert {run.id for run in claimer.claim(new_id(), ids)} == set(ids) - {ids[2]}
    assert world.run(ids[2]) is None


def test_a_config_that_cannot_be_parsed_flaws_its_action_alone(world: World, claimer: Claimer) -> None:
    """Fails when the JSON is parsed by the driver: 5,000 digits raise for the whole result."""
    good = world.action(0, parallel=True)
    bad = world.action(1, parallel=True)
    world.do("UPDATE actions SET config = %s WHERE id = %s", '{"url": ' + "9" * 5000 + "}", bad)
    trigger_id = world.trigger()

    (run,) = claimer.claim(new_id(), [trigger_id])

    flaws = {e.action_id: e.action.flaw for e in run.executions if e.action is not None}
    assert flaws[good] is None
    assert "Set it again" in str(flaws[bad])


def test_a_trigger_whose_callback_is_gone_is_doomed(world: World, claimer: Claimer) -> None:
    world.action()
    trigger_id = world.trigger()
    world.do("UPDATE callbacks SET deleted_at = now()")
    (run,) = claimer.claim(new_id(), [trigger_id])
    assert (run.doom, run.executions) == ("callback_deleted", [])


def test_a_later_claim_resumes_from_the_rows(world: World, claimer: Claimer) -> None:
    first, second = world.action(0), world.action(1)
    trigger_id = world.trigger()
    claimer.claim(new_id(), [trigger_id])
    world.do("UPDATE action_executions SET status = 'SUCCESS' WHERE action_id = %s", first)
    world.do("UPDATE runs SET status = 'PENDING', worker_id = NULL")

    (run,) = claimer.claim(new_id(), [trigger_id])

    assert run.claim == 2
    states = {e.action_id: (e.status, e.attempt) for e in run.executions}
    assert states == {first: (Status.SUCCESS, 1), second: (Status.RUNNING, 1)}
    assert [r["status"] for r in world.executions(trigger_id)] == ["SUCCESS", "RUNNING"]


def test_an_execution_whose_retry_is_not_due_is_not_started(world: World, claimer: Claimer) -> None:
    world.action()
    trigger_id = world.trigger()
    claimer.claim(new_id(), [trigger_id])
    world.do("UPDATE action_executions SET status = 'PENDING', next_attempt_at = now() + interval '1 hour'")
    world.do("UPDATE runs SET status = 'PENDING', worker_id = NULL")
    (run,) = claimer.claim(new_id(), [trigger_id])
    assert [(e.status, e.attempt) for e in run.executions] == [(Status.PENDING, 1)]


def test_executions_lie_in_their_triggers_partition_and_are_found_by_id(
    world: World, claimer: Claimer
) -> None:
    world.action()
    trigger_id = world.trigger()
    (run,) = claimer.claim(new_id(), [trigger_id])
    assert run.executions[0].id.bytes[:12] == trigger_id.bytes[:12]


def test_what_was_lost_with_a_worker_is_left_to_its_turn(world: World, claimer: Claimer) -> None:
    world.action()
    innocent, once, twice = world.trigger(), world.trigger(losses=1), world.trigger(losses=2)
    later = world.trigger(losses=1, due_at="2999-01-01")
    everything = [innocent, once, twice, later]
    assert [run.id for run in claimer.claim(new_id(), everything)] == [innocent]
    assert {one.trigger_id: one.losses for one in claimer.claimable(everything)} == {once: 1, twice: 2}
    assert [run.id for run in claimer.claim(new_id(), everything, max_losses=1)] == [once]
    assert [run.losses for run in claimer.claim(new_id(), everything, max_losses=9)] == [2]


def test_what_killed_three_workers_alone_is_doomed_and_anybody_may_say_so(
    world: World, claimer: Claimer
) -> None:
    world.action()
    trigger_id = world.trigger(losses=4, losses_alone=3)
    (run,) = claimer.claim(new_id(), [trigger_id])
    assert run.doom == "worker_lost"
    assert [row["status"] for row in world.executions(trigger_id)] == ["PENDING"], (
        "nothing of it is attempted"
    )


def test_what_was_claimed_while_its_callback_was_off_is_not_nothing_to_do_afterwards(
    world: World, claimer: Claimer
) -> None:
    """Fails when a worker that dies in between leaves a run without executions: switched on again,
    it would end SUCCESS with nothing sent."""
    action = world.action()
    trigger_id = world.trigger()
    world.do("UPDATE callbacks SET active_status = false")
    (run,) = claimer.claim(new_id(), [trigger_id])
    assert (run.doom, [e.status for e in run.executions]) == ("callback_inactive", [Status.PENDING])
    world.do("UPDATE runs SET status = 'PENDING', worker_id = NULL, claim = claim + 1")  # void
    world.do("UPDATE callbacks SET active_status = true")

    (run,) = claimer.claim(new_id(), [trigger_id])

    assert run.doom is None
    assert [(e.action_id, e.status) for e in run.executions] == [(action, Status.RUNNING)]


class TestRoom:
    """A claim takes what has a place, and leaves the rest as if it had not looked at it."""

    @pytest.fixture
    def small(self, world: World) -> Iterator[tuple[Claimer, Room]]:
        room = Room(10, 10**9, 1)
        claimer = Claimer(world.database_url, room)
        yield claimer, room
        claimer.close()

    def test_what_has_no_place_is_left_untouched(
        self, world: World, stranger: World, small: tuple[Claimer, Room]
    ) -> None:
        claimer, room = small
        for tenant in (world, stranger):
            tenant.action()
        many, other = sorted(world.trigger() for _ in range(12)), stranger.trigger()
        without = world.run(many[-1])
        turned_away: dict[UUID, Wanted] = {}

        runs = claimer.claim(new_id(), [*many, other], turned_away=turned_away.update)

        assert [run.id for run in runs] == [*many[:8], other]
        assert turned_away.keys() == set(many[8:])
        assert {wanted.user_id for wanted in turned_away.values()} == {world.user_id}
        assert len(room) == 9
        assert world.run(many[-1]) == without
        assert world.executions(many[-1]) == []
        for run in runs:
            room.leave(run.id)
        later = claimer.claim(new_id(), many[8:])
        assert [(run.claim, len(run.executions)) for run in later] == [(1, 1)] * 4

    def test_tenants_that_are_named_are_left_out(
        self, world: World, stranger: World, claimer: Claimer
    ) -> None:
        world.action()
        stranger.action()
        mine, other = world.trigger(losses=1), stranger.trigger()
        plain = world.trigger()
        runs = claimer.claim(new_id(), [mine, other, plain], not_of=[world.user_id])
        assert [run.id for run in runs] == [other]
        assert {
            (one.trigger_id, one.user_id, one.losses) for one in claimer.claimable([mine, other, plain])
        } == {
            (mine, world.user_id, 1),
            (plain, world.user_id, 0),
        }

    def test_of_a_step_that_is_broader_than_its_places_that_many_start(
        self, world: World, small: tuple[Claimer, Room]
    ) -> None:
        claimer, _room = small
        for n in range(30):
            world.action(n, parallel=True)
        trigger_id = world.trigger()
        (run,) = claimer.claim(new_id(), [trigger_id])
        assert run.places == 8
        statuses = [row["status"] for row in world.executions(trigger_id)]
        assert (statuses.count("RUNNING"), statuses.count("PENDING")) == (8, 22)

    def test_a_claim_that_fails_takes_no_room(
        self, world: World, small: tuple[Claimer, Room], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails when the places of a claim whose commit was cut are lost for ever."""
        claimer, room = small
        world.action()
        ids = [world.trigger() for _ in range(3)]

        def cut(_statements: Transaction) -> None:
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(Transaction, "commit", cut)
        with pytest.raises(psycopg2.OperationalError):
            claimer.claim(new_id(), ids)
        assert len(room) == 0
        monkeypatch.undo()
        assert len(claimer.claim(new_id(), ids)) == 3
