"""The publisher of hints, with a sender that only notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import cast
from uuid import UUID

from shared.hints import MAX_QUEUED_IDS, HintPublisher, HintSender
from shared.ids import new_id
from shared.queues import FRESH, MAX_HINT_IDS, RETRY


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
