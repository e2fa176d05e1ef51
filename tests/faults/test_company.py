"""The engine in bad company: what one tenant, its receivers or a death can do to others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.oracle import everything_ended, nothing_was_lost
from tests.faults.tenants import other_tenant
from tests.peers.receiver import Receiver
from tests.running import QUICK, Running, eventually
from tests.sent import unlike_any_other

STALE_SECONDS = float(QUICK["POINTSMAN_STALE_SECONDS"])
CAPACITY = 50

# A machine that is busy with other tests.
SLACK_SECONDS = 0.5


@pytest.fixture
def pointsman(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path, {"POINTSMAN_CAPACITY": str(CAPACITY)}) as running:
        yield running


def hanging(running: Running, receiver: Receiver, times: int, *, seconds: float) -> dict[str, Any]:
    """A callback whose receiver hangs, so many times side by side; each attempt is its last."""
    once = {"parallel": True, "retry": {"maxAttempts": 1}}
    actions = [
        {"type": "HTTP_POST", "order": n, "config": {"url": receiver.url("/hang")}, **once}
        for n in range(1, times)
    ]
    callback = running.callback(receiver.url("/hang"), actions, timeoutDuration=int(seconds * 1000))
    running.primary(callback, **once)
    return callback


def of_another_tenant(running: Running, url: str) -> dict[str, Any]:
    with other_tenant(running) as other:
        return running.callback(url, api=other)


def seconds_to_settled(running: Running, trigger_ids: list[str]) -> list[float]:
    rows = running.query("SELECT id::text, response_time FROM logs WHERE id = ANY(%s::uuid[])", trigger_ids)
    taken = dict(rows)
    return [taken[one] / 1000 for one in trigger_ids]


@pytest.mark.load
@pytest.mark.timeout(180)
def test_a_death_beside_hanging_receivers_holds_nobody_up(pointsman: Running, receiver: Receiver) -> None:
    """Guards: suspects run apart. Seen before: in turns inside the worker, they held others up for
    10 to 20 s, again and again.
    """
    slow = hanging(pointsman, receiver, 1, seconds=8)
    quick = of_another_tenant(pointsman, receiver.url("/ok?of=other"))
    hangs = [pointsman.fire(slow, content=f"hangs {n}".encode()) for n in range(60)]
    full = int(CAPACITY * 0.8)
    eventually(lambda: len(receiver.got("/hang")) == full, 10, "deliveries that hang")
    pointsman.kill("worker")
    killed_at = time.monotonic()
    fired: list[tuple[float, str]] = []
    while (since := time.monotonic() - killed_at) < STALE_SECONDS + 20:
        fired.append((since, pointsman.fire(quick, **unlike_any_other())))
        time.sleep(0.2)
    everything_ended(pointsman, 90)

    taken = seconds_to_settled(pointsman, [one for _, one in fired])
    assert max(taken) <= STALE_SECONDS + 2
    later = [seconds for (since, _), seconds in zip(fired, taken, strict=True) if since > STALE_SECONDS + 2]
    assert len(later) > 50
    assert max(later) <= 1 + SLACK_SECONDS
    nothing_was_lost(pointsman, receiver, [one for _, one in fired])
    ends = pointsman.query("SELECT success, count(*) FROM logs WHERE id = ANY(%s::uuid[]) GROUP BY 1", hangs)
    assert ends == [(False, len(hangs))]
    eventually(lambda: not pointsman.suspects(), 10, "no process of suspects")


@pytest.mark.timeout(120)
def test_actions_side_by_side_leave_places_for_others(pointsman: Running, receiver: Receiver) -> None:
    """Guards: a run takes as many places as it needs connections. Seen before: thirty actions that
    hang, four times, took all connections, and others' attempts were spent without being sent.
    """
    quick = of_another_tenant(pointsman, receiver.url("/ok?of=other"))
    alone = _slowest_delivery(pointsman, receiver, quick)
    slow = hanging(pointsman, receiver, 30, seconds=20)
    for n in range(4):
        pointsman.fire(slow, content=f"hangs {n}".encode())
    eventually(lambda: len(receiver.got("/hang")) >= 30, 10, "deliveries that hang")

    beside = _slowest_delivery(pointsman, receiver, quick)

    assert beside <= max(2 * alone, alone + SLACK_SECONDS)
    assert len(receiver.got("/hang")) == 30, "another thirty would be more than one tenant may have"
    attempts = pointsman.query(
        "SELECT DISTINCT attempt FROM action_executions x JOIN callbacks c"
        " ON c.id = x.callback_id WHERE c.id = %s",
        quick["id"],
    )
    assert attempts == [(1,)]


def _slowest_delivery(running: Running, receiver: Receiver, callback: dict[str, Any]) -> float:
    """Seconds from the call to the delivery; of fifty, all but the slowest."""
    began: dict[str, float] = {}
    for n in range(50):
        at = time.monotonic()
        began[running.fire(callback, content=f"{at} {n}".encode())] = at
    eventually(
        lambda: len({r.trigger_id for r in receiver.receipts} & began.keys()) == len(began),
        15,
        "all deliveries",
    )
    taken = [r.at - began[r.trigger_id] for r in receiver.receipts if r.trigger_id in began]
    return sorted(taken)[-2]


@pytest.mark.timeout(60)
def test_a_tenant_alone_fills_four_fifths(pointsman: Running, receiver: Receiver) -> None:
    def at_once() -> int:
        """The most deliveries that hung at one moment, each for 5 s or more."""
        came = [receipt.at for receipt in receiver.got("/hang")]
        return max((sum(then - 5 < other <= then for other in came) for then in came), default=0)

    slow = hanging(pointsman, receiver, 1, seconds=6)
    for n in range(CAPACITY * 2):
        pointsman.fire(slow, content=f"hangs {n}".encode())
    eventually(lambda: at_once() >= CAPACITY * 0.8, 10, "deliveries that hang")
    quick = of_another_tenant(pointsman, receiver.url("/ok?of=other"))
    last = pointsman.fire(quick, content=b"the last")
    delivered = "SELECT 1 FROM logs WHERE id = %s AND success"
    eventually(lambda: pointsman.query(delivered, last), 15, "a delivery after all others were looked at")
    everything_ended(pointsman, 40)
    assert at_once() == CAPACITY * 0.8
    assert len(receiver.got("/hang")) == CAPACITY * 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_a_step_larger_than_the_worker_settles(tmp_path: Path, receiver: Receiver, deaths: int) -> None:
    """Guards: a step of more executions than a tenant may have places runs in slices, among
    suspects too.
    """
    with Running(tmp_path, {"POINTSMAN_CAPACITY": "10"}) as running:
        actions = [
            {
                "type": "HTTP_POST",
                "order": n,
                "parallel": True,
                "config": {"url": receiver.url(f"/delay/20?n={n}")},
            }
            for n in range(1, 50)
        ]
        callback = running.callback(receiver.url("/delay/20?n=0"), actions)
        running.primary(callback, parallel=True)
        killed: list[str] = []
        receiver.before_answer = _killing(running, callback["id"], deaths, killed)
        trigger_id = running.fire(callback, content=b"one of many")
        everything_ended(running, 60)
        trigger = running.trigger(trigger_id)
        assert trigger["status"] == "SUCCESS"
        assert len(trigger["executions"]) == 50
        assert len(set(killed)) == deaths
        nothing_was_lost(running, receiver, [trigger_id])


def _killing(running: Running, callback_id: str, deaths: int, killed: list[str]) -> Callable[[str], None]:
    """Kill so many times the process that carries the callback's run, in the midst of it."""

    def before(_path: str) -> None:
        if len(killed) >= deaths:
            return
        ((worker, attempts),) = running.query(
            "SELECT r.worker_id::text, (SELECT count(*) FROM action_executions x WHERE x.trigger_id = r.trigger_id"
            " AND x.status = 'SUCCESS') FROM runs r WHERE r.callback_id = %s",
            callback_id,
        )
        if worker not in killed and attempts > 12 * (len(killed) + 1):
            killed.append(worker)
            os.kill(running.suspects().get(worker) or running.pid_of("worker"), 9)

    return before
