"""Who waits for the end of what a call has begun."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import pytest

from api import endings as module
from api.caller import Caller
from api.endings import Endings
from shared.ids import new_id


@dataclass(frozen=True)
class Thing:
    id: UUID
    is_done: bool = False


class Hung:
    """A caller that has hung up."""

    async def gone(self) -> None:
        return


@pytest.fixture
def endings() -> Iterator[Endings]:
    endings = Endings(max_waiters=2)
    yield endings
    endings.stop()


def test_what_is_done_is_not_waited_for(endings: Endings) -> None:
    done = Thing(new_id(), is_done=True)
    assert asyncio.run(endings.wait(done, lambda: pytest.fail("it looked"))) is done


def test_who_is_told_looks_at_once(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when only the look of each second finds it."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 60.0)
    begun = Thing(new_id())
    timer = threading.Timer(0.2, lambda: endings.settled([new_id(), begun.id]))
    timer.start()
    started = time.monotonic()
    assert asyncio.run(endings.wait(begun, lambda: replace(begun, is_done=True))).is_done
    assert time.monotonic() - started < 5


def test_who_is_not_told_looks_each_second(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis; and a look that fails is made again."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    begun, looks = Thing(new_id()), []

    def look() -> Thing:
        looks.append(1)
        if len(looks) == 1:
            raise OSError("PostgreSQL is away")
        return replace(begun, is_done=len(looks) == 3)

    assert asyncio.run(endings.wait(begun, look)).is_done
    assert len(looks) == 3


def test_nobody_waits_for_ever(endings: Endings) -> None:
    begun = Thing(new_id())
    started = time.monotonic()
    assert asyncio.run(endings.wait(begun, lambda: begun, seconds=0.2)) == begun
    assert 0.2 <= time.monotonic() - started < 5


def test_who_has_hung_up_is_not_waited_for(endings: Endings) -> None:
    begun = Thing(new_id())
    waited = endings.wait(begun, lambda: pytest.fail("it looked"), cast(Caller, Hung()))
    assert asyncio.run(waited) == begun


def test_so_many_wait_and_no_more(endings: Endings) -> None:
    """Fails when waiting callers are not bounded, or a place is not given back."""

    async def story() -> None:
        begun = [Thing(new_id()) for _ in range(3)]
        first, second = (
            asyncio.create_task(endings.wait(one, lambda one=one: replace(one, is_done=True)))  # type: ignore[misc]
            for one in begun[:2]
        )
        await asyncio.sleep(0)
        assert await endings.wait(begun[2], lambda: begun[2]) is begun[2], "there is no place"
        endings.settled([one.id for one in begun])
        assert (await first).is_done
        assert (await second).is_done
        last: Any = asyncio.create_task(endings.wait(begun[2], lambda: replace(begun[2], is_done=True)))
        await asyncio.sleep(0)
        endings.settled([begun[2].id])
        assert (await last).is_done

    asyncio.run(story())


def test_a_stop_lets_everybody_go(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 60.0)
    begun = Thing(new_id())
    threading.Timer(0.1, endings.stop).start()
    started = time.monotonic()
    assert asyncio.run(endings.wait(begun, lambda: begun)) == begun
    assert time.monotonic() - started < 5
