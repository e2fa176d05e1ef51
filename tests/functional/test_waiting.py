"""`Prefer: wait`: callers that want the outcome in the answer."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.peers.receiver import Receiver
from tests.running import Running, eventually


def call(callback: dict[str, Any], wait: int, **request: Any) -> httpx.Response:
    headers = {"prefer": f"wait={wait}"} | request.pop("headers", {})
    return httpx.post(callback["triggerUrl"], trust_env=False, timeout=30, headers=headers, **request)


def test_the_answer_is_the_outcome_of_each_execution(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/delay/100"), [{"type": "STORE", "config": {}}])

    answer = call(callback, 10, json={"n": 1})

    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=10")
    told = answer.json()
    assert told["status"] == "SUCCESS"
    assert [(e["type"], e["status"], e["step"]) for e in told["executions"]] == [
        ("HTTP_POST", "SUCCESS", 0),
        ("STORE", "SUCCESS", 1),
    ]
    trigger = pointsman.trigger(told["triggerId"])
    assert told["finishedAt"] == trigger["finishedAt"]


def test_a_caller_that_waits_is_told_at_once(pointsman: Running, receiver: Receiver) -> None:
    """Each time. Fails when only the look of each second tells: it comes a second after the
    waiter.
    """
    callback = pointsman.callback(receiver.url("/delay/50"))
    took = []
    for _ in range(3):
        started = time.monotonic()
        assert call(callback, 10).status_code == 200
        took.append(time.monotonic() - started)
    assert max(took) < 0.9


def test_a_failure_is_an_outcome_too(pointsman: Running, receiver: Receiver) -> None:
    answer = call(pointsman.callback(receiver.url("/status/400")), 10)
    assert (answer.status_code, answer.json()["status"]) == (200, "FAILED")
    (execution,) = answer.json()["executions"]
    assert (execution["statusCode"], execution["code"]) == (400, "http_400")


def test_when_the_time_is_over_the_answer_is_202(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/delay/2500"))
    started = time.monotonic()
    answer = call(callback, 1)
    assert 1 <= time.monotonic() - started < 2
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert answer.json()["status"] == "RUNNING"
    assert pointsman.ended(answer.json()["triggerId"])["status"] == "SUCCESS"


def test_nobody_waits_longer_than_the_callbacks_timeout(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/hang"), timeoutDuration=1000)
    started = time.monotonic()
    answer = call(callback, 100)
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - started < 5


def test_waiting_for_an_earlier_call(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/delay/800"))
    key = {"idempotency-key": "the-same"}
    first = call(callback, 0, headers=key)
    second = call(callback, 10, headers=key)
    assert (first.status_code, second.status_code) == (202, 200)
    assert "preference-applied" not in first.headers
    assert second.json()["triggerId"] == first.json()["triggerId"]
    assert second.json()["status"] == "SUCCESS"
    assert len(receiver.receipts) == 1


def test_callers_that_wait_keep_nobody_out(pointsman: Running, receiver: Receiver) -> None:
    """Fails when a waiting caller holds one of the API's threads."""
    slow, quick = pointsman.callback(receiver.url("/delay/3000")), pointsman.callback(receiver.url("/ok"))
    answers: list[httpx.Response] = []
    unbounded = httpx.Limits(max_connections=None)
    with httpx.Client(trust_env=False, timeout=30, limits=unbounded, headers={"prefer": "wait=10"}) as client:
        threads = [
            threading.Thread(target=lambda: answers.append(client.post(slow["triggerUrl"])))
            for _ in range(80)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: len(receiver.receipts) == 80, 10, "80 calls that wait")
        assert not answers, "all of them still wait"
        started = time.monotonic()
        pointsman.fire(quick)
        took = time.monotonic() - started
        for thread in threads:
            thread.join(30)
    assert took < 1
    assert {answer.status_code for answer in answers} == {200}


def test_who_hangs_up_gives_its_place_back(tmp_path: Path, receiver: Receiver) -> None:
    """Fails when a place is taken for as long as a caller that has gone would have waited."""
    with Running(tmp_path, {"POINTSMAN_MAX_WAITERS": "4"}) as pointsman:  # one for each account
        slow = pointsman.callback(receiver.url("/hang"), timeoutDuration=60_000)
        quick = pointsman.callback(receiver.url("/delay/100"))
        target = urlsplit(slow["triggerUrl"])
        with socket.create_connection((target.hostname, target.port)) as waiting:
            head = f"POST {target.path} HTTP/1.1\r\nhost: x\r\nprefer: wait=60\r\ncontent-length: 1\r\n\r\nx"
            waiting.sendall(head.encode())
            eventually(lambda: receiver.got("/hang"), 5, "the delivery")
            assert call(quick, 5).status_code == 202, "the place is taken"
        eventually(lambda: call(quick, 5).status_code == 200, 5, "the place")
