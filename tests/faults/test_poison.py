"""Payloads that kill the worker that has them."""

from __future__ import annotations

import contextlib

import pytest

from tests.faults.oracle import everything_ended, nothing_was_lost
from tests.peers.receiver import Receiver
from tests.running import Running

NEIGHBOURS = 60
POISON = "/delay/50?poison"


@pytest.mark.load
@pytest.mark.timeout(240)
def test_a_payload_that_kills_its_worker_fails_and_nobody_else_does(
    pointsman: Running, receiver: Receiver
) -> None:
    """Guards: suspects take turns, and only losses suffered alone count."""
    deadly = pointsman.callback(receiver.url(POISON))
    harmless = pointsman.callback(
        receiver.url("/delay/300"), [{"type": "HTTP_POST", "config": {"url": receiver.url("/delay/100")}}]
    )

    def kill_whoever_sends_poison(path: str) -> None:
        if path == POISON:
            with contextlib.suppress(AssertionError, ProcessLookupError):
                pointsman.kill("worker")

    receiver.before_answer = kill_whoever_sends_poison
    neighbours = [pointsman.fire(harmless) for _ in range(NEIGHBOURS // 2)]
    poison = pointsman.fire(deadly)
    neighbours += [pointsman.fire(harmless) for _ in range(NEIGHBOURS // 2)]
    everything_ended(pointsman, 150)

    ended = pointsman.trigger(poison)
    (execution,) = ended["executions"]
    assert (ended["status"], ended["reason"]) == ("FAILED", "worker_lost")
    assert execution["error"].startswith("worker_lost: ")
    assert {entry["outcome"] for entry in execution["history"]} == {"worker_lost"}
    assert 3 <= execution["attempt"] <= 5
    assert len(receiver.got(POISON)) == execution["attempt"]
    nothing_was_lost(pointsman, receiver, neighbours)
