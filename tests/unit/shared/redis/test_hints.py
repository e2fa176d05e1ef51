"""The publisher of hints, with a sender that only notes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.ids import new_id
from shared.redis import hints
from shared.redis.hints import MAX_QUEUED_IDS, SOCKET_SECONDS, HintPublisher, HintSender
from shared.redis.queues import FRESH, HINT_TASK, MAX_HINT_IDS, PROBE_TASK, RETRY, make_celery
from tests.running import eventually


class NotingSender:
    """Notes what it is asked to send; waits at the gate before each."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[UUID]]] = []
        self.gate = threading.Event()

    def send(self, lane: str, ids: Sequence[UUID]) -> bool:
        assert self.gate.wait(5)
        if ids:
            self.sent.append((lane, list(ids)))
        return True

    def close(self) -> None: ...


def test_offering_never_waits_and_the_queue_is_bounded() -> None:
    sender = NotingSender()
    publisher = HintPublisher(cast(HintSender, sender))
    publisher.start()
    started = time.monotonic()
    many = [new_id()] * 10_000
    for _ in range(MAX_QUEUED_IDS // len(many) + 3):
        publisher.offer(FRESH, many)
    assert time.monotonic() - started < 2
    sender.gate.set()
    publisher.stop()
    assert sum(len(ids) for _, ids in sender.sent) <= MAX_QUEUED_IDS


def test_a_message_holds_at_most_a_hundred_ids_of_one_lane() -> None:
    sender = NotingSender()
    publisher = HintPublisher(cast(HintSender, sender))
    ids = [new_id() for _ in range(250)]
    publisher.offer(FRESH, ids)
    publisher.offer(RETRY, ids[:3])
    sender.gate.set()
    publisher.start()
    publisher.stop()
    assert [(lane, len(sent)) for lane, sent in sender.sent] == [
        (FRESH, 100),
        (FRESH, 100),
        (FRESH, 50),
        (RETRY, 3),
    ]
    assert MAX_HINT_IDS == 100
    assert [i for lane, sent in sender.sent if lane == FRESH for i in sent] == ids


def dropped() -> float:
    return REGISTRY.get_sample_value("pointsman_hints_dropped_total") or 0.0


class RefusingSender(NotingSender):
    """Redis is away."""

    def send(self, lane: str, ids: Sequence[UUID]) -> bool:
        super().send(lane, ids)
        return False


def test_what_does_not_fit_is_dropped_and_counted_and_the_oldest_stay() -> None:
    publisher = HintPublisher(cast(HintSender, NotingSender()))
    before, last = dropped(), new_id()
    publisher.offer(FRESH, [new_id()] * (MAX_QUEUED_IDS - 1))
    publisher.offer(FRESH, [last, new_id(), new_id()])
    publisher.offer(RETRY, [new_id()])
    assert dropped() - before == 3
    assert len(publisher._queue) == MAX_QUEUED_IDS
    assert publisher._queue[-1] == (FRESH, last)


def test_what_redis_did_not_take_is_counted_and_not_kept() -> None:
    sender = RefusingSender()
    sender.gate.set()
    publisher = HintPublisher(cast(HintSender, sender))
    before = dropped()
    publisher.offer(FRESH, [new_id() for _ in range(130)])
    publisher.start()
    publisher.stop()
    assert dropped() - before == 130
    assert [len(ids) for _, ids in sender.sent] == [100, 30], "each is tried once; the sweep finds them"


def test_under_load_ids_gather_into_one_message() -> None:
    sender = NotingSender()
    publisher = HintPublisher(cast(HintSender, sender))
    publisher.start()  # the first message, which names nothing, waits at the gate
    for _ in range(60):
        publisher.offer(FRESH, [new_id()])
    sender.gate.set()
    publisher.stop()
    assert [len(ids) for _, ids in sender.sent] == [60]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([FRESH, RETRY, "gold"]), st.integers(0, 230)), max_size=6))
def test_lanes_never_mix_and_nothing_is_lost_or_doubled(offers: list[tuple[str, int]]) -> None:
    sender = NotingSender()
    sender.gate.set()
    publisher = HintPublisher(cast(HintSender, sender))
    offered = [(lane, [new_id() for _ in range(count)]) for lane, count in offers]
    for lane, ids in offered:
        publisher.offer(lane, ids)
    publisher.start()
    publisher.stop()
    assert all(0 < len(ids) <= MAX_HINT_IDS for _, ids in sender.sent)
    for lane in (FRESH, RETRY, "gold"):
        wanted = [i for name, ids in offered if name == lane for i in ids]
        assert [i for name, ids in sender.sent if name == lane for i in ids] == wanted


class FakeCelery:
    """Publishes nothing; fails while it is told to."""

    def __init__(self) -> None:
        self.away = False
        self.calls: list[dict[str, Any]] = []

    def send_task(self, name: str, **options: Any) -> None:
        self.calls.append({"name": name, **options})
        if self.away:
            raise OSError("connection refused")


def test_a_hint_is_sent_once_to_its_lane_and_never_repeated_by_celery() -> None:
    app, ids = FakeCelery(), [new_id(), new_id()]
    sender = HintSender(cast(Celery, app), "memory://")
    assert sender.send(RETRY, ids)
    (call,) = app.calls
    assert (call["name"], call["queue"], call["args"]) == (HINT_TASK, RETRY, ([str(i) for i in ids],))
    assert call["retry"] is False
    sender.close()


def test_after_a_failure_redis_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without the breaker: each hint to a dead Redis would cost its full socket timeout."""
    monkeypatch.setattr(hints, "BREAKER_SECONDS", 0.2)
    app = FakeCelery()
    app.away = True
    sender = HintSender(cast(Celery, app), "memory://")
    with capture_logs() as logged:
        failed_at = time.monotonic()
        assert [sender.send(FRESH, [new_id()]) for _ in range(50)] == [False] * 50
        assert time.monotonic() - failed_at < 0.2, "the test itself was too slow to tell"
        assert len(app.calls) == 1
        assert sender.length(FRESH) is None
        app.away = False
        eventually(lambda: sender.send(FRESH, [new_id()]), 5, "the breaker to close")
    assert time.monotonic() - failed_at >= 0.2
    assert [line["event"] for line in logged] == ["redis_takes_no_hints", "redis_takes_hints_again"]
    sender.close()


def test_an_outage_is_told_once_however_long_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "BREAKER_SECONDS", 0.0)
    app = FakeCelery()
    app.away = True
    sender = HintSender(cast(Celery, app), "memory://")
    with capture_logs() as logged:
        assert not any(sender.send(FRESH, [new_id()]) for _ in range(5))
    assert len(app.calls) == 5
    assert [line["log_level"] for line in logged if line["event"] == "redis_takes_no_hints"] == ["warning"]


@pytest.mark.parametrize("ask", ["send", "length"])
def test_a_redis_that_cannot_be_reached_is_no_error_and_costs_no_time(ask: str) -> None:
    """Fails when kombu connects a second time after a pause of its own, two seconds long."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused at once
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        sender = HintSender(make_celery(url), url)
        started = time.monotonic()
        assert not (sender.length(FRESH) if ask == "length" else sender.send(FRESH, [new_id()]))
        assert time.monotonic() - started < 2 * SOCKET_SECONDS
        sender.close()


def test_that_a_probe_waits_is_said_beside_the_hints_and_names_nothing() -> None:
    app = FakeCelery()
    publisher = HintPublisher(HintSender(cast(Celery, app), "memory://"))
    publisher.offer_probe()
    publisher.start()
    eventually(lambda: len(app.calls) == 2, 5, "the first, empty hint, and that of the probe")
    publisher.offer(FRESH, [new_id()])
    publisher.offer_probe()
    eventually(lambda: len(app.calls) == 4, 5, "both")
    publisher.stop()
    said = [(call["name"], call["args"]) for call in app.calls if call["name"] == PROBE_TASK]
    assert said == [(PROBE_TASK, ())] * 2
