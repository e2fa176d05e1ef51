"""Loops in threads of their own: one that dies is noticed, one that was stopped is not mourned."""

from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from shared.threads import OwnedThread, first_dead


def until_dead(thread: OwnedThread) -> bool:
    deadline = time.monotonic() + 5
    while not thread.has_died and time.monotonic() < deadline:
        time.sleep(0.005)
    return thread.has_died


def waits(event: threading.Event) -> OwnedThread:

    def loop() -> None:
        event.wait()

    return OwnedThread("waits", loop)


def test_a_loop_that_was_stopped_has_not_died() -> None:
    event = threading.Event()
    thread = waits(event)
    assert not thread.has_died, "one that was never started neither"
    thread.start()
    assert not thread.has_died
    assert thread.stop(event.set, 5)
    assert not thread.has_died


@pytest.mark.parametrize("error", [RuntimeError("x"), SystemExit(1), None])
def test_a_loop_that_ends_by_itself_has_died(error: BaseException | None) -> None:
    """Fails when a process lives on without one of its loops, looking well."""

    def loop() -> None:
        if error is not None:
            raise error

    thread = OwnedThread("dies", loop)
    with capture_logs() as lines:
        thread.start()
        assert until_dead(thread)
    assert [line["thread"] for line in lines] == (["dies"] if error else [])
    assert first_dead([waits(threading.Event()), thread]) == "dies"


def test_a_loop_that_does_not_end_is_given_up_in_time() -> None:
    event = threading.Event()
    thread = waits(event)
    thread.start()
    began = time.monotonic()
    assert not thread.stop(lambda: None, 0.05)
    assert time.monotonic() - began < 2
    event.set()


def test_what_was_never_started_can_be_stopped() -> None:
    told = threading.Event()
    assert waits(told).stop(told.set, 1)
    assert told.is_set()
