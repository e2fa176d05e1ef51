"""A worker's prober, on a real PostgreSQL, with real receivers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from shared.ids import new_id
from shared.postgres.connections import OwnedConnection
from shared.probes import moves
from tests.peers.receiver import Receiver
from tests.probing import probing, result_of, row_of, write_probe
from tests.running import eventually
from tests.world import World
from worker.egress.messages import HttpRequest
from worker.maintenance.expired import Expired
from worker.maintenance.probes import Probes
from worker.probes import shown
from worker.probes.echoes import Secrets
from worker.probes.prober import MAX_AT_ONCE

SECRET = "canary-of-a-prober"


@pytest.fixture
def connection(world: World) -> Iterator[OwnedConnection]:
    connection = OwnedConnection(world.database_url, "test", call_seconds=10)
    yield connection
    connection.close()


def action(world: World, url: str, timeout_ms: int = 30_000) -> UUID:
    world.do("UPDATE callbacks SET timeout_duration = %s WHERE id = %s", timeout_ms, world.callback_id)
    return world.action(config=json.dumps({"url": url, "headers": {"X-Key": SECRET}}))


def test_a_probe_is_sent_once_and_its_request_goes(world: World, stranger: World, receiver: Receiver) -> None:
    one = write_probe(world, action(world, receiver.url("/one")))
    other = write_probe(stranger, action(stranger, receiver.url("/other")))
    with probing(world) as (_, prober):
        prober.look()
        assert result_of(world, one)["request"]["url"] == receiver.url("/one")
        assert result_of(world, other)["request"]["url"] == receiver.url("/other")
        prober.look()
    assert sorted((r.path, r.webhook_id) for r in receiver.receipts) == [
        ("/one", str(one)),
        ("/other", str(other)),
    ]
    assert all(r.headers["x-key"] == SECRET for r in receiver.receipts)
    row = row_of(world, one)
    assert (row["request"], row["failure"]) == (None, None)
    assert row["result"].startswith("sealed:")
    assert SECRET not in json.dumps(result_of(world, one))


def test_a_claim_leaves_what_another_is_taking(world: World, connect: Callable[..., Any]) -> None:
    """Fails when a claim waits for another, and then takes the same."""
    ids = {write_probe(world, new_id()) for _ in range(3)}
    one, other = connect(autocommit=False), connect(autocommit=False)
    with one.cursor() as first, other.cursor() as second:
        taken = moves.claim(first, new_id(), 1)
        second.execute("SET LOCAL statement_timeout = '3s'")
        rest = moves.claim(second, new_id(), 5)
    assert {claimed.id for claimed in (*taken, *rest)} == ids
    assert (len(taken), len(rest)) == (1, 2)


def test_two_workers_send_each_probe_once(world: World, receiver: Receiver) -> None:
    its_action = action(world, receiver.url("/ok"))
    ids = [write_probe(world, its_action) for _ in range(40)]
    with probing(world) as (_, one), probing(world) as (_, other):
        one.look()
        other.look()
        for probe_id in ids:
            result_of(world, probe_id, 30)
    assert sorted(r.webhook_id for r in receiver.receipts) == sorted(map(str, ids))


def test_the_sweep_finds_what_no_hint_has_told(
    world: World, receiver: Receiver, connection: OwnedConnection
) -> None:
    """Without Redis. Fails when a probe is only ever found by its hint."""
    with probing(world) as (_, prober):
        probe = write_probe(world, action(world, receiver.url("/ok")))
        duty = Probes(0.1, prober.look)
        eventually(
            lambda: duty.do(connection) == 0 and row_of(world, probe)["state"] == "DONE", 10, "its end"
        )
    assert len(receiver.receipts) == 1


def test_a_probe_of_a_dead_worker_ends_and_is_not_sent_again(
    world: World, receiver: Receiver, connection: OwnedConnection
) -> None:
    """That of a living one goes on."""
    its_action = action(world, receiver.url("/ok"))
    living = world.rows.insert("workers")["id"]
    lost = write_probe(world, its_action, state="RUNNING", worker_id=new_id())
    kept = write_probe(world, its_action, state="RUNNING", worker_id=living)
    told: list[UUID] = []
    with probing(world) as (_, prober):
        assert Probes(0.1, prober.look, told.append).do(connection) == 1
    row = row_of(world, lost)
    assert (row["state"], row["failure"], row["request"]) == ("DONE", "worker_lost", None)
    assert row["finished_at"]
    assert row_of(world, kept)["state"] == "RUNNING"
    assert told == [lost]
    assert receiver.receipts == []


def test_what_nobody_has_claimed_for_minutes_is_not_sent(
    world: World, receiver: Receiver, connection: OwnedConnection
) -> None:
    """Fails when somebody's forgotten test goes out in the middle of the night."""
    its_action = action(world, receiver.url("/ok"))
    old = write_probe(world, its_action)
    world.do("UPDATE probes SET created_at = now() - interval '301 s' WHERE id = %s", old)
    new = write_probe(world, its_action)
    with probing(world) as (_, prober):
        prober.look()
        result_of(world, new)
        assert row_of(world, old)["state"] == "PENDING"
        assert Probes(0.1).do(connection) == 1
    assert (row_of(world, old)["failure"], row_of(world, old)["state"]) == ("no_worker", "DONE")
    assert [r.webhook_id for r in receiver.receipts] == [str(new)]


def test_a_late_result_changes_nothing(world: World, receiver: Receiver, connection: OwnedConnection) -> None:
    """Fails when a worker that was declared dead writes over what was said of its probe."""
    probe = write_probe(world, action(world, receiver.url("/delay/700")))
    with probing(world) as (_, prober):
        prober.look()
        eventually(lambda: receiver.receipts, 10, "the probe")
        world.do("UPDATE probes SET state = 'DONE', failure = 'worker_lost' WHERE id = %s", probe)
        later = write_probe(world, action(world, receiver.url("/delay/1200")))
        prober.look()
        result_of(world, later)
    row = row_of(world, probe)
    assert (row["failure"], row["result"]) == ("worker_lost", None)


def test_what_an_ambiguous_claim_has_left_is_tried(
    world: World, receiver: Receiver, connection: OwnedConnection
) -> None:
    """Fails when a claim whose answer was lost strands its probes until somebody makes another."""
    with probing(world) as (engine, prober):
        probe = write_probe(
            world, action(world, receiver.url("/ok")), state="RUNNING", worker_id=engine.worker_id
        )
        duty = Probes(0.1, prober.look)
        eventually(
            lambda: duty.do(connection) == 0 and row_of(world, probe)["state"] == "DONE", 10, "its end"
        )
        assert result_of(world, probe)["outcome"] == "success"
    assert len(receiver.receipts) == 1


def test_a_fault_in_what_is_shown_ends_the_probe_alone(
    world: World, stranger: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when one probe whose result cannot be made keeps all others from theirs."""
    as_it_is = shown.shown_request

    def broken_for_one(sent: HttpRequest, kind: str, hidden: Secrets) -> dict[str, Any]:
        if sent.url.endswith("/broken"):
            raise RuntimeError("a fault of ours")
        return as_it_is(sent, kind, hidden)

    monkeypatch.setattr(shown, "shown_request", broken_for_one)
    broken = write_probe(world, action(world, receiver.url("/broken")))
    whole = write_probe(stranger, action(stranger, receiver.url("/whole")))
    with probing(world) as (_, prober):
        prober.look()
        assert result_of(world, broken)["code"] == "internal_error"
        assert result_of(world, whole)["code"] == "ok"


def test_probes_take_no_place_from_deliveries(world: World, receiver: Receiver) -> None:
    """Fails when more than MAX_AT_ONCE are under way, or one takes a place."""
    its_action = action(world, receiver.url("/hang"), timeout_ms=1_500)
    ids = [write_probe(world, its_action) for _ in range(MAX_AT_ONCE + 3)]
    with probing(world) as (engine, prober):
        free = engine.free
        prober.look()
        eventually(lambda: len(receiver.receipts) >= MAX_AT_ONCE, 10, "as many as may be")
        assert engine.free == free
        assert len(receiver.receipts) == MAX_AT_ONCE
        states = {row_of(world, one)["state"] for one in ids[MAX_AT_ONCE:]}
        assert states == {"PENDING"}
        results = [result_of(world, one) for one in ids]
    assert {(r["code"], r["outcome"]) for r in results} == {("timeout", "failure")}
    assert all(1_400 <= r["durationMs"] < 5_000 for r in results)


def test_a_worker_that_stops_ends_its_probes(world: World, receiver: Receiver) -> None:
    """Fails when a probe under way is left without an end, or one is claimed during a drain."""
    its_action = action(world, receiver.url("/hang"))
    probe = write_probe(world, its_action)
    with probing(world, drain_seconds=0.3) as (_, prober):
        prober.look()
        eventually(lambda: receiver.receipts, 10, "the probe")
        prober.begin_to_stop()
        waiting = write_probe(world, its_action)
        prober.look()
    assert result_of(world, probe)["code"] == "worker_stopped"
    assert row_of(world, waiting)["state"] == "PENDING"
    assert len(receiver.receipts) == 1


@pytest.mark.parametrize("spoilt", ["request", "action", "config"])
def test_one_that_cannot_be_tried_ends_and_holds_up_no_other(
    world: World, stranger: World, receiver: Receiver, spoilt: str
) -> None:
    its_action = action(world, receiver.url("/bad"))
    probe = write_probe(world, its_action)
    if spoilt == "request":
        world.do("UPDATE probes SET request = 'sealed:none:x' WHERE id = %s", probe)
    elif spoilt == "action":
        world.do("UPDATE actions SET deleted_at = now() WHERE id = %s", its_action)
    else:
        world.do("UPDATE actions SET config = '{\"url\": 1}' WHERE id = %s", its_action)
    good = write_probe(stranger, action(stranger, receiver.url("/good")))
    with probing(world) as (_, prober):
        prober.look()
        assert result_of(world, good)["outcome"] == "success"
        codes = {"request": "secret_unreadable", "action": "gone", "config": "bad_config"}
        assert result_of(world, probe)["code"] == codes[spoilt]
    assert [r.path for r in receiver.receipts] == ["/good"]


def test_another_tenants_action_is_not_tried(world: World, stranger: World, receiver: Receiver) -> None:
    """Whatever a row says. Fails when a worker does not compare whose callback it is."""
    theirs = action(stranger, receiver.url("/theirs"))
    probe = write_probe(stranger, theirs, user_id=world.user_id)
    mixed = write_probe(world, theirs)  # the callback is the world's, the action the stranger's
    with probing(world) as (_, prober):
        prober.look()
        assert result_of(world, probe)["code"] == "gone"
        assert result_of(world, mixed)["code"] == "gone"
    assert receiver.receipts == []


def test_a_probe_is_kept_for_an_hour(world: World, connection: OwnedConnection) -> None:
    kept, old = write_probe(world, new_id()), write_probe(world, new_id())
    left = world.ask("SELECT extract(epoch FROM expires_at - now()) FROM probes WHERE id = %s", kept)[0][0]
    assert 3_500 < left <= 3_600
    world.do("UPDATE probes SET expires_at = now() WHERE id = %s", old)
    assert Expired().do(connection) == 1
    assert world.ask("SELECT id::text FROM probes") == [(str(kept),)]
