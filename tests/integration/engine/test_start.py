"""What does not start at its claim, and what starts at a later step, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.crypto import SecretBox, new_key
from shared.ids import new_id
from shared.keyring.rotation import rotate
from shared.postgres.connections import OwnedConnection
from shared.runs import give_back
from tests.made_kind import MADE_TYPE, Megaphone, Saying, register
from tests.prepared import preparing
from tests.world import World
from worker import actions
from worker.actions.contract import Limits
from worker.doors import Doors
from worker.engine.claim import Claimer
from worker.engine.journal import Journal
from worker.engine.retry import Tries
from worker.engine.room import Room
from worker.engine.run import carry
from worker.engine.services import RunServices
from worker.engine.state import HeldRun
from worker.maintenance.dead_workers import DeadWorkers
from worker.records import ActionRecord


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Saying:
    return register(monkeypatch)


@pytest.fixture
def claim(world: World, claimer: Claimer) -> Callable[[UUID], HeldRun]:
    return lambda trigger_id: claimer.claim(new_id(), [trigger_id])[0]


def say(world: World, word: str | None, order: int = 0, **fields: Any) -> UUID:
    config = json.dumps({} if word is None else {"say": word})
    return world.action(order, type=MADE_TYPE, config=config, **fields)


def states(world: World, trigger_id: UUID) -> list[tuple[str, int]]:
    return [(row["status"], row["attempt"]) for row in world.executions(trigger_id)]


class Watching(Megaphone):
    """Notes what PostgreSQL says of the executions while something is said."""

    def __init__(self, world: World, trigger_id: UUID) -> None:
        super().__init__()
        self.meanwhile: list[list[tuple[str, int]]] = []
        self._world, self._trigger_id = world, trigger_id

    async def say(self, word: str, number: int) -> None:
        await super().say(word, number)
        self.meanwhile.append(states(self._world, self._trigger_id))


BOX = SecretBox(new_key())


def run_to_its_end(run: HeldRun, journal: Journal, megaphone: Megaphone) -> None:
    services = RunServices(
        journal=journal,
        room=Room(1_000, 10**9, 1),
        doors=Doors({Megaphone: megaphone}),
        preparing=preparing(BOX),
        secrets=BOX,
        limits=Limits(max_response_bytes=1, max_stored_item_bytes=1, max_stored_items=1),
        may_start=lambda: True,
    )
    asyncio.run(carry(run, services))


def test_a_claim_leaves_it_pending_and_it_is_running_before_it_is_performed(
    world: World, journal: Journal, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    say(world, "hello")
    trigger_id = world.trigger()
    run = claim(trigger_id)
    assert states(world, trigger_id) == [("PENDING", 0)]
    assert saying.prepared == []
    (row,) = world.executions(trigger_id)
    assert row["started_at"] is None

    megaphone = Watching(world, trigger_id)
    run_to_its_end(run, journal, megaphone)

    assert megaphone.said == [("hello", 1)]
    assert megaphone.meanwhile == [[("RUNNING", 1)]]
    assert states(world, trigger_id) == [("SUCCESS", 1)]
    (row,) = world.executions(trigger_id)
    assert row["started_at"] is not None


def test_siblings_that_start_at_their_claim_do(
    world: World, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    say(world, "hello", 0, parallel=True)
    world.action(1, parallel=True)
    trigger_id = world.trigger()
    claim(trigger_id)
    assert sorted(states(world, trigger_id)) == [("PENDING", 0), ("RUNNING", 1)]


def test_preparing_that_ends_it_spends_no_attempt(
    world: World, journal: Journal, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    say(world, None)
    trigger_id = world.trigger()
    run_to_its_end(claim(trigger_id), journal, Megaphone())
    (row,) = world.executions(trigger_id)
    assert (row["status"], row["attempt"], row["started_at"]) == ("FAILED", 0, None)
    assert row["error"] == "bad_config: Nothing to say. Give it a word."
    assert row["history"] == []
    log = world.log(trigger_id)
    assert log is not None
    assert not log["success"]


class Changing(Megaphone):
    """Whoever speaks first has another's config changed meanwhile."""

    def __init__(self, change: Callable[[], Any]) -> None:
        super().__init__()
        self._change = change

    async def say(self, word: str, number: int) -> None:
        if not self.said:
            self._change()
        await super().say(word, number)


@pytest.mark.parametrize("at_claim", ["old", None], ids=["another", "one that cannot be used"])
def test_a_config_that_changes_before_its_step_comes_is_what_is_performed(
    world: World,
    journal: Journal,
    claim: Callable[[UUID], HeldRun],
    saying: Saying,
    at_claim: str | None,
) -> None:
    """Fails when a later step is judged by what the claim has read: who fixes an action fixes its
    run.
    """
    say(world, "first")
    later = say(world, at_claim, 1)
    trigger_id = world.trigger()
    run = claim(trigger_id)

    change = "UPDATE actions SET config = %s WHERE id = %s"
    megaphone = Changing(lambda: world.do(change, json.dumps({"say": "new"}), later))
    run_to_its_end(run, journal, megaphone)

    assert megaphone.said == [("first", 1), ("new", 1)]
    assert states(world, trigger_id) == [("SUCCESS", 1), ("SUCCESS", 1)]


def test_a_config_that_is_broken_before_its_step_comes_spends_no_attempt(
    world: World, journal: Journal, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    """Fails when a change is found out after the attempt was committed as RUNNING."""
    say(world, "first")
    later = say(world, "hello", 1)
    trigger_id = world.trigger()
    run = claim(trigger_id)
    megaphone = Changing(lambda: world.do("UPDATE actions SET config = '{}' WHERE id = %s", later))
    run_to_its_end(run, journal, megaphone)
    assert megaphone.said == [("first", 1)]
    _, broken = world.executions(trigger_id)
    assert (broken["status"], broken["attempt"], broken["started_at"]) == ("FAILED", 0, None)


def test_a_key_rotation_before_its_step_comes_spends_no_attempt(
    world: World, journal: Journal, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    """What was prepared from the value under the old key is prepared again, and nothing else."""
    old, new = new_key(), new_key()
    say(world, "first")
    word = {"say": "later", "secret": SecretBox(old).encrypt("hidden")}
    world.action(1, type=MADE_TYPE, config=json.dumps(word))
    trigger_id = world.trigger()
    run = claim(trigger_id)
    megaphone = Changing(lambda: rotate(world.database_url, SecretBox(f"{new},{old}"), 20.0))
    run_to_its_end(run, journal, megaphone)
    assert megaphone.said == [("first", 1), ("later", 1)]
    assert states(world, trigger_id) == [("SUCCESS", 1), ("SUCCESS", 1)]
    sealed = [config["secret"] for config in saying.prepared if "secret" in config]
    assert [SecretBox(key).decrypt(one) for key, one in zip((old, new), sealed, strict=True)] == [
        "hidden"
    ] * 2


class Hoarse(Megaphone):
    """It fails at first."""

    async def say(self, word: str, number: int) -> None:
        await super().say(word, number)
        if number < 3:
            raise OSError("hoarse")


def test_attempts_that_follow_each_other_without_a_delay_all_stand_in_the_history(
    world: World, journal: Journal, claim: Callable[[UUID], HeldRun], saying: Saying
) -> None:
    """Fails when the end of one and the start of the next are rows of one statement."""
    say(world, "hello", retry='{"maxAttempts": 3, "schedule": [0]}')
    trigger_id = world.trigger()
    megaphone = Hoarse()
    run_to_its_end(claim(trigger_id), journal, megaphone)
    assert megaphone.said == [("hello", 1), ("hello", 2), ("hello", 3)]
    (row,) = world.executions(trigger_id)
    assert (row["status"], row["attempt"]) == ("SUCCESS", 3)
    assert [(past["attempt"], past["outcome"]) for past in row["history"]] == [
        (1, "internal_error"),
        (2, "internal_error"),
    ]


class Confused:
    """A kind that does not know whether a claim may start it."""

    def __init__(self, kind: Saying) -> None:
        self.DOOR, self.prepare = kind.DOOR, kind.prepare
        self.perform, self.classify = kind.perform, kind.classify

    def starts_at_claim(self, action: ActionRecord) -> bool:
        raise ValueError("a fault of ours")


def test_a_kind_that_does_not_know_whether_it_may_start_is_started_by_its_run(
    world: World, journal: Journal, claimer: Claimer, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the claim breaks: its run would end as if a row of it could not be read."""
    monkeypatch.setitem(actions.KINDS, MADE_TYPE, Confused(saying))
    say(world, "hello")
    triggers = [world.trigger(), world.trigger()]
    with capture_logs():
        runs = claimer.claim(new_id(), triggers)
    assert [run.id for run in runs] == sorted(triggers)
    megaphone = Megaphone()
    for run in runs:
        run_to_its_end(run, journal, megaphone)
    assert megaphone.said == [("hello", 1), ("hello", 1)]
    assert [states(world, one) for one in triggers] == [[("SUCCESS", 1)]] * 2


def pending_again(world: World, run: HeldRun) -> None:
    """An attempt has failed and its retry is due."""
    world.do(
        "UPDATE action_executions SET status = 'PENDING', next_attempt_at = now() WHERE trigger_id = %s",
        run.id,
    )
    world.do("UPDATE runs SET status = 'PENDING', worker_id = NULL WHERE trigger_id = %s", run.id)


def test_a_retry_of_an_action_that_was_disabled_meanwhile_does_not_start(
    world: World, stranger: World, journal: Journal, claim: Callable[[UUID], HeldRun]
) -> None:
    """Fails when a claim starts it: the receiver would be called by an action that is switched
    off.
    """
    action, other = world.action(), stranger.action()
    runs = [claim(world.trigger()), claim(stranger.trigger())]
    for run in runs:
        pending_again(world, run)
    world.do("UPDATE actions SET enabled = false WHERE id = %s", action)

    mine, theirs = (claim(run.id) for run in runs)

    assert states(world, mine.id) == [("PENDING", 1)], "it has spent no attempt"
    assert states(stranger, theirs.id) == [("RUNNING", 2)], f"{other} is another's and enabled"
    run_to_its_end(mine, journal, Megaphone())
    (row,) = world.executions(mine.id)
    assert (row["status"], row["attempt"]) == ("FAILED", 1)
    assert row["error"].startswith("action_disabled: ")


def lost(world: World, run: HeldRun) -> None:
    """Its worker has died, as the sweep of another sees it."""
    with closing(OwnedConnection(world.database_url, "test", call_seconds=10)) as connection:
        assert DeadWorkers(stale_seconds=0, interval_seconds=1).do(connection) == 1
    world.do("UPDATE runs SET losses = 0, losses_alone = 0")  # else it waits for its turn as a suspect


def released(world: World, run: HeldRun) -> None:
    give_back.release(world.cursor, [run.id], "released")


@pytest.mark.parametrize("ended_early", [lost, released])
def test_an_attempt_that_did_not_end_by_itself_uses_up_nothing_of_the_schedule(
    world: World, claim: Callable[[UUID], HeldRun], ended_early: Callable[[World, HeldRun], None]
) -> None:
    """Fails when it counts: workers that come and go would end a delivery before its receiver was
    asked often enough.
    """
    world.action()
    run = claim(world.trigger())
    for number in range(3):
        ended_early(world, run)
        run = claim(run.id)
        (execution,) = run.executions
        assert (execution.attempt, execution.tries) == (number + 2, Tries(made=1))
    (row,) = world.executions(run.id)
    outcomes = {"lost": "worker_lost", "released": "released"}
    assert [entry["outcome"] for entry in row["history"]] == [outcomes[ended_early.__name__]] * 3
