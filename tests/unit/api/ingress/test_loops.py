"""Calls that have come round."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from api.ingress import loops
from api.ingress.loops import NOTE_SECONDS, Loops
from api.ingress.resolve import Snapshot
from shared.errors import Loop, Unavailable

ONE, OTHER = (Snapshot(UUID(int=n), UUID(int=9), True, 30_000, 0) for n in (1, 2))


class NotingThreads:
    def __init__(self) -> None:
        self.noted: list[tuple[Snapshot, int]] = []
        self.are_full = False

    def submit(self, _do: Any, callback: Snapshot, callbacks: int) -> None:
        if self.are_full:
            raise Unavailable("Too many requests are waiting in this process.")
        self.noted.append((callback, callbacks))


class World:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.threads = NotingThreads()
        self.loops = Loops(cast(Any, None), cast(Any, self.threads), lambda: self.seconds)

    def is_refused(self, callback: Snapshot, *through: Snapshot) -> bool:
        value = ",".join(str(one.callback_id) for one in through)
        try:
            self.loops.refuse(value, callback)
        except Loop:
            return True
        return False


def test_only_what_has_come_round_is_refused() -> None:
    world = World()
    world.loops.refuse(None, ONE)
    assert not world.is_refused(ONE, OTHER)
    assert world.is_refused(ONE, OTHER, ONE)
    assert world.threads.noted == [(ONE, 2)]


def test_a_callback_gets_one_note_a_minute_however_many_calls_come() -> None:
    """Fails when a loop, or a stranger who makes up a header, fills the log."""
    world = World()
    for seconds in (0.0, 1.0, NOTE_SECONDS - 0.1):
        world.seconds = seconds
        assert world.is_refused(ONE, ONE)
        assert world.is_refused(OTHER, OTHER)
    assert world.threads.noted == [(ONE, 1), (OTHER, 1)]
    world.seconds = NOTE_SECONDS
    assert world.is_refused(ONE, ONE)
    assert len(world.threads.noted) == 3


def test_a_note_that_cannot_be_made_refuses_all_the_same() -> None:
    world = World()
    world.threads.are_full = True
    with capture_logs() as logged:
        assert world.is_refused(ONE, ONE)
    assert [line["event"] for line in logged] == ["loop_not_noted"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MAX_REMEMBERED", 2)
    world = World()
    for number in range(5):
        one = Snapshot(UUID(int=number), UUID(int=9), True, 30_000, 0)
        assert world.is_refused(one, one)
        assert len(world.loops._noted) <= 2
