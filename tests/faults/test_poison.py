"""Payloads that kill the worker that has them."""

from __future__ import annotations

import contextlib

import pytest

from tests.faults.oracle import everything_ended, nothing_was_lost
from tests.faults.tenants import two_tenants
from tests.peers.receiver import Receiver
from tests.running import Running
from tests.sent import unlike_any_other

NEIGHBOURS = 60
POISON = "/delay/50?poison"


@pytest.mark.load
@pytest.mark.timeout(240)
def test_a_payload_that_kills_its_worker_fails_and_nobody_else_does(
    pointsman: Running, receiver: Receiver
) -> None:
    """Guards: suspects run apart, and only losses suffered alone count."""
    deadly = pointsman.callback(receiver.url(POISON))
    harmless = two_tenants(pointsman, receiver, "/delay/300", "/delay/100")

    def kill_whoever_sends_poison(path: str) -> None:
        if path != POISON:
            return
        ((worker,),) = pointsman.query(
            "SELECT r.worker_id::text FROM runs r JOIN callbacks c ON c.id = r.callback_id WHERE c.id = %s",
            deadly["id"],
        )
        # None: the one that sent it has ended meanwhile
        pid = pointsman.suspects().get(worker) or pointsman.pids().get("worker")
        if pid is not None:
            killed.append(worker)
            with contextlib.suppress(ProcessLookupError):
                pointsman.signal_pid(pid, "SIGKILL")

    killed: list[str] = []
    receiver.before_answer = kill_whoever_sends_poison
    calls = [({"triggerUrl": harmless[n % 2]}, unlike_any_other()) for n in range(NEIGHBOURS)]
    neighbours = [pointsman.fire(callback, **made) for callback, made in calls[: NEIGHBOURS // 2]]
    poison = pointsman.fire(deadly)
    neighbours += [pointsman.fire(callback, **made) for callback, made in calls[NEIGHBOURS // 2 :]]
    everything_ended(pointsman, 150)

    ended = pointsman.trigger(poison)
    (execution,) = ended["executions"]
    assert (ended["status"], ended["reason"]) == ("FAILED", "worker_lost")
    assert execution["error"].startswith("worker_lost: ")
    assert {entry["outcome"] for entry in execution["history"]} == {"worker_lost"}
    assert 3 <= execution["attempt"] <= 5
    assert len(receiver.got(POISON)) == execution["attempt"]
    assert len(set(killed)) == execution["attempt"]
    assert pointsman.log().count("suspects_died") == execution["attempt"] - 1, "the worker died once"
    nothing_was_lost(pointsman, receiver, neighbours)
