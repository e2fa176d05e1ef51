"""Two API processes on one PostgreSQL and one Redis, each on a port of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.ports import free_port
from deploy.local.state import DataFolder
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

# Calls of each callback through each API.
CALLS = 10


@pytest.fixture(scope="module")
def second_url(pointsman: Running) -> Iterator[str]:
    """Where an API process listens that is none of `pointsman run`'s own."""
    port = free_port()
    environment = pointsman.environment | {
        "POINTSMAN_PORT": str(port),
        "POINTSMAN_DATABASE_URL": pointsman.database_url,
        "POINTSMAN_REDIS_URL": pointsman.redis_url,
        "POINTSMAN_SECRET_KEYS": DataFolder(pointsman.folder / "data").secret_keys(),
    }
    with (pointsman.folder / "second_api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.server"], env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, "the second API ended"
        try:
            return httpx.get(f"{url}/readyz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        eventually(is_ready, 30, "the second API")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def through(api_url: str, callback: dict[str, Any]) -> str:
    """A callback's trigger URL at this API."""
    return str(httpx.URL(api_url).join(httpx.URL(callback["triggerUrl"]).path))


def test_equal_keys_through_both_become_one_trigger(
    pointsman: Running, receiver: Receiver, second_url: str
) -> None:
    """Fails when a process keeps the keys that it knows to itself."""
    callbacks = [pointsman.callback(receiver.url(f"/ok?of={number}")) for number in range(2)]
    key = {"idempotency-key": str(uuid.uuid4())}
    calls = [
        (through(url, callback), f"body {callback['id']}")
        for callback in callbacks
        for url in (pointsman.url, second_url)
    ]
    barrier = threading.Barrier(len(calls) * CALLS)
    answers: list[tuple[str, httpx.Response]] = []

    def call(url: str, body: str) -> None:
        barrier.wait(20)
        answers.append((body, httpx.post(url, content=body, headers=key, trust_env=False, timeout=20)))

    threads = [threading.Thread(target=call, args=one) for one in calls * CALLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [answer.status_code for _, answer in answers] == [202] * len(threads)
    named = {(body, answer.json()["triggerId"]) for body, answer in answers}
    assert len(named) == len(callbacks), "one trigger for each callback"
    for _, trigger_id in named:
        pointsman.ended(trigger_id)
    got = sorted((receipt.trigger_id, receipt.body.decode()) for receipt in receiver.receipts)
    assert got == sorted((trigger_id, body) for body, trigger_id in named)


def test_whoever_waits_at_one_is_told_of_a_settle(
    pointsman: Running, receiver: Receiver, second_url: str
) -> None:
    """At once, by whichever worker has settled it: long before the look of each second."""
    callback = pointsman.callback(receiver.url("/delay/50"))
    wait = {"prefer": "wait=20"}
    for url in (second_url, pointsman.url):
        started = time.monotonic()
        answer = httpx.post(through(url, callback), headers=wait, trust_env=False, timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
        assert time.monotonic() - started < 0.9


def test_whoever_waits_at_one_is_told_of_a_cancel_at_the_other(
    pointsman: Running, receiver: Receiver, second_url: str
) -> None:
    """Fails when only the process that cancels knows of it."""
    callback = pointsman.callback(receiver.url("/delay/8000"))
    answers: list[httpx.Response] = []

    def call() -> None:
        url, wait = through(second_url, callback), {"prefer": "wait=20"}
        answers.append(httpx.post(url, headers=wait, trust_env=False, timeout=30))

    waiting = threading.Thread(target=call)
    waiting.start()
    (delivery,) = eventually(lambda: receiver.receipts, 5, "the delivery, before which the wait began")
    assert pointsman.api.post(f"/api/v1/triggers/{delivery.trigger_id}/cancel").is_success
    waiting.join(5)
    assert [(one.status_code, one.json()["status"]) for one in answers] == [(200, "FAILED")]
    assert answers[0].json()["triggerId"] == delivery.trigger_id
