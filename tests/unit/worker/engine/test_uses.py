"""When credentials were last used."""

from __future__ import annotations

from uuid import UUID

from worker.engine import uses as module
from worker.engine.uses import EVERY_SECONDS, CredentialUses

A, B = UUID(int=1), UUID(int=2)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_use_is_written_once_a_minute_however_often_it_is_noted() -> None:
    clock = Clock()
    uses = CredentialUses(clock)
    for _ in range(100):
        uses.note(A)
    assert uses.due() == [A]
    uses.note(A)
    uses.note(B)
    clock.now += EVERY_SECONDS - 1
    assert uses.due() == [B]
    clock.now += 1
    assert uses.due() == [A], "what was noted meanwhile is not lost"
    assert uses.due() == []


def test_what_was_used_once_is_forgotten() -> None:
    clock = Clock()
    uses = CredentialUses(clock)
    uses.note(A)
    uses.due()
    clock.now += EVERY_SECONDS
    uses.due()
    assert uses._written_at == {}


def test_many_are_written_one_portion_after_another(monkeypatch: object) -> None:
    uses = CredentialUses(Clock())
    ids = [UUID(int=number) for number in range(module.MAX_WRITTEN + 5)]
    for one in ids:
        uses.note(one)
    assert uses.due() == ids[: module.MAX_WRITTEN]
    assert uses.due() == ids[module.MAX_WRITTEN :]
