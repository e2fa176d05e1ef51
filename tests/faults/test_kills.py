"""kill -9 of any process under load. What each test guards is named in its docstring."""

from __future__ import annotations

from functools import partial

import pytest

from tests.faults.oracle import nothing_was_lost, wait_for
from tests.faults.sizes import progress, size
from tests.faults.tenants import two_tenants
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

KILLS = size(5, 50)

# Accepted triggers, which takes long enough that what was killed starts again without a pause.
BETWEEN = 200

# Triggers a second: what gathers while a worker is away drains until the next kill.
RATE = 40.0

REFUSED = {"worker": set[int](), "valkey": set[int](), "api": {0}, "postgres": {503}}
"""What callers may be told meanwhile instead of 202; 0: nothing, since nobody listens."""


@pytest.mark.load
@pytest.mark.timeout(120 + 20 * KILLS)
@pytest.mark.parametrize("victim", ["worker", "api", "valkey", "postgres"])
def test_every_accepted_trigger_ends_although_a_process_is_killed(
    pointsman: Running, receiver: Receiver, victim: str
) -> None:
    """worker: the void of dead workers' claims. api: commit before the answer. valkey: the sweep of
    lost hints.

    postgres: commit on disk, the patient journal, connections that open again.

    No caller notices the end of a worker or of Valkey.
    """
    urls = two_tenants(pointsman, receiver, "/delay/200", "/ok")  # so that calls are under way at each kill
    with BackgroundLoad(urls, per_second=RATE) as load:
        for number in range(KILLS):
            wait_for(load.accepted, BETWEEN)
            before = pointsman.pid_of(victim)
            pointsman.kill(victim)
            eventually(partial(_has_changed, pointsman, victim, before), 20, f"a new {victim}")
            progress(f"kill {number + 1} of {KILLS}, {len(load.accepted)} accepted")
        wait_for(load.accepted, BETWEEN)
    if victim in ("worker", "valkey"):
        assert load.nobody_was_refused, (load.refused, load.begun)
    assert set(load.refused) <= REFUSED[victim], load.refused
    nothing_was_lost(pointsman, receiver, load.accepted)


def _has_changed(pointsman: Running, name: str, before: int) -> bool:
    return pointsman.pids().get(name, before) != before


@pytest.mark.load
def test_doubles_of_a_killed_worker_bear_the_same_webhook_id(pointsman: Running, receiver: Receiver) -> None:
    """Guards: an attempt is recorded before it is sent, under an id that never changes."""
    callback = pointsman.callback(receiver.url("/delay/700"))
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first delivery")
    pointsman.kill("worker")

    trigger = pointsman.ended(trigger_id, 30)

    (execution,) = trigger["executions"]
    assert (trigger["status"], execution["attempt"]) == ("SUCCESS", 2)
    assert [(h["attempt"], h["outcome"]) for h in execution["history"]] == [(1, "worker_lost")]
    assert [r.headers["pointsman-attempt"] for r in receiver.receipts] == ["1", "2"]
    assert {r.webhook_id for r in receiver.receipts} == {execution["id"]}


@pytest.mark.load
def test_a_worker_told_to_stop_releases_what_it_cannot_finish(pointsman: Running, receiver: Receiver) -> None:
    """Guards: drain. No attempt of a drained worker is worker_lost."""
    callback = pointsman.callback(receiver.url("/delay/4000"), timeoutDuration=10_000)
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first delivery")
    pointsman.signal("worker", "SIGTERM")

    trigger = pointsman.ended(trigger_id, 30)

    (execution,) = trigger["executions"]
    assert (trigger["status"], execution["attempt"]) == ("SUCCESS", 2)
    assert [(h["attempt"], h["outcome"]) for h in execution["history"]] == [(1, "released")]


@pytest.mark.load
def test_a_worker_that_slept_past_its_lease_changes_nothing(pointsman: Running, receiver: Receiver) -> None:
    """Guards: the lease, the sweeper's own clock and a new worker id after being declared dead."""
    callback = pointsman.callback(receiver.url("/delay/500"))
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first delivery")
    pointsman.signal("worker", "SIGSTOP")
    eventually(
        lambda: pointsman.query("SELECT now() - heartbeat_at > interval '4 seconds' FROM workers")[0][0],
        20,
        "a stale heartbeat",
    )
    pointsman.signal("worker", "SIGCONT")

    trigger = pointsman.ended(trigger_id, 30)

    assert trigger["status"] == "SUCCESS"
    assert len(receiver.receipts) <= trigger["executions"][0]["attempt"]
    assert pointsman.ended(pointsman.fire(callback), 30)["status"] == "SUCCESS"
