"""Calls that are the same: Idempotency-Key and cachePeriod, over HTTP."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import httpx
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running


def call(callback: dict[str, Any], key: str | None = None, **request: Any) -> httpx.Response:
    headers = {} if key is None else {"idempotency-key": key}
    return httpx.post(
        callback["triggerUrl"], trust_env=False, headers=headers | request.pop("headers", {}), **request
    )


def test_a_repeated_call_gets_the_first_triggers_id_and_runs_nothing(
    pointsman: Running, receiver: Receiver
) -> None:
    callback, key = pointsman.callback(receiver.url("/ok")), str(uuid.uuid4())
    first = call(callback, key, json={"n": 1})
    assert "idempotent-replayed" not in first.headers
    pointsman.ended(first.json()["triggerId"])

    again = call(callback, key, json={"n": 1})

    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json() == first.json() | {"status": "SUCCESS"}
    assert len(receiver.receipts) == 1


def test_fifty_equal_calls_at_once_run_once(pointsman: Running, receiver: Receiver) -> None:
    callback, key = pointsman.callback(receiver.url("/ok")), str(uuid.uuid4())
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(50)

    def one() -> None:
        barrier.wait(10)
        answers.append(call(callback, key, content=b"same"))

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {answer.status_code for answer in answers} == {202}
    (trigger_id,) = {answer.json()["triggerId"] for answer in answers}
    pointsman.ended(trigger_id)
    assert len(receiver.receipts) == 1


def test_the_same_key_with_another_body_is_a_conflict(pointsman: Running, receiver: Receiver) -> None:
    callback, key = pointsman.callback(receiver.url("/ok")), "k"
    call(callback, key, content=b"one")
    answer = call(callback, key, content=b"two")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_that_cannot_be_one_is_refused_and_nothing_recorded(
    pointsman: Running, receiver: Receiver
) -> None:
    answer = call(pointsman.callback(receiver.url("/ok")), "x" * 256)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")


def test_an_identical_call_within_the_cache_period_is_answered_from_the_first(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/delay/300"), cachePeriod=60)
    first = call(callback, json={"n": 1})
    running = call(callback, json={"n": 1})
    assert (first.status_code, first.headers["x-cache"]) == (202, "MISS")
    assert (running.status_code, running.headers["x-cache"]) == (202, "HIT")
    assert running.json()["triggerId"] == first.json()["triggerId"]
    pointsman.ended(first.json()["triggerId"])

    settled = call(callback, json={"n": 1})

    assert (settled.status_code, settled.headers["x-cache"]) == (200, "HIT")
    told = settled.json()
    assert (told["triggerId"], told["status"]) == (first.json()["triggerId"], "SUCCESS")
    assert [(e["type"], e["status"], e["statusCode"]) for e in told["executions"]] == [
        ("HTTP_POST", "SUCCESS", 200)
    ]
    assert call(callback, json={"n": 2}).headers["x-cache"] == "MISS"
    assert call(callback, json={"n": 1}, params={"a": "1"}).headers["x-cache"] == "MISS"
    assert len({receipt.trigger_id for receipt in receiver.receipts}) == len(receiver.receipts)


def test_a_failed_trigger_is_no_hit(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/status/400"), cachePeriod=60)
    first = call(callback, content=b"x")
    pointsman.ended(first.json()["triggerId"])
    second = call(callback, content=b"x")
    assert (second.headers["x-cache"], second.json()["triggerId"] != first.json()["triggerId"]) == (
        "MISS",
        True,
    )


@pytest.mark.parametrize("period", [0, 1])
def test_the_cache_lasts_for_its_period_only(pointsman: Running, receiver: Receiver, period: int) -> None:
    callback = pointsman.callback(receiver.url("/ok"), cachePeriod=period)
    first = call(callback, content=b"x").json()["triggerId"]
    threading.Event().wait(period + 0.1)
    second = call(callback, content=b"x")
    assert second.json()["triggerId"] != first
    assert second.headers.get("x-cache") == ("MISS" if period else None)
