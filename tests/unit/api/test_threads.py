"""Threads for what blocks, bounded in how many wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from api.threads import Threads
from shared.errors import Unavailable


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads("test", 1, 2)
    yield threads
    threads.stop()


def test_a_call_is_made_in_a_thread_and_its_end_awaited(threads: Threads) -> None:
    async def story() -> tuple[str, str]:
        name = await threads.call(lambda: threading.current_thread().name)
        with pytest.raises(ZeroDivisionError):
            await threads.call(lambda: 1 // 0)
        return name, await threads.call("".join, ["a", "b"])

    name, joined = asyncio.run(story())
    assert name.startswith("test")
    assert joined == "ab"


def test_beyond_the_bound_nobody_waits_and_an_end_makes_room(threads: Threads) -> None:
    go_on = threading.Event()

    async def story() -> list[bool]:
        under_way, waiting = threads.call(go_on.wait, 5), threads.call(go_on.wait, 5)
        with pytest.raises(Unavailable):
            threads.call(go_on.wait, 5)
        go_on.set()
        ends = list(await asyncio.gather(under_way, waiting))
        await asyncio.sleep(0)
        return [*ends, await threads.call(go_on.is_set)]

    assert asyncio.run(story()) == [True, True, True]


def test_who_gives_up_before_a_thread_is_free_is_never_called(threads: Threads) -> None:
    """Fails when the work of callers who were told 503 keeps the threads from everybody else."""
    go_on, made = threading.Event(), list[str]()

    def note(name: str) -> Callable[[], None]:
        return lambda: made.append(name)

    async def story() -> None:
        busy = threads.call(go_on.wait, 5)
        given_up = threads.call(note("given up"))
        given_up.cancel()
        await asyncio.sleep(0)
        kept = threads.call(note("kept"))
        go_on.set()
        await asyncio.gather(busy, kept)

    asyncio.run(story())
    assert made == ["kept"]
