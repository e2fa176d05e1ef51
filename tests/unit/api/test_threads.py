"""Threads for what blocks, bounded in how many wait."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator

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


def test_who_gives_up_before_a_thread_is_free_is_never_called_and_leaves_nothing_behind() -> None:
    """Fails when what callers wanted who were told 503 takes threads, or memory, from others."""
    threads, go_on, made = Threads("test", 1, 4), threading.Event(), list[str]()
    body = Body()
    kept_alive = weakref.ref(body)

    async def story() -> None:
        nonlocal body
        busy = threads.call(go_on.wait, 5)
        given_up = [threads.call(made.append, body) for _ in range(2)]
        del body
        for future in given_up:
            future.cancel()
        await asyncio.sleep(0)
        assert kept_alive() is None
        kept = threads.call(made.append, "kept")
        with pytest.raises(Unavailable):
            threads.call(made.append, "those given up are still in the queue")
        go_on.set()
        await asyncio.gather(busy, kept)

    asyncio.run(story())
    threads.stop()
    assert made == ["kept"]


class Body:
    """What a call holds."""


def test_whoever_waits_when_the_threads_are_stopped_is_told() -> None:
    """Fails when a caller gets no answer, since its future was cancelled by somebody else."""
    threads, go_on = Threads("test", 1, 9), threading.Event()

    async def story() -> list[object]:
        under_way = threads.call(go_on.wait, 5)
        waiting = [threads.call(go_on.wait, 5) for _ in range(3)]
        stopping = asyncio.create_task(asyncio.to_thread(threads.stop))
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(Unavailable):
            threads.call(go_on.wait, 5)
        go_on.set()
        await stopping
        return [await under_way, *ends]

    first, *ends = asyncio.run(story())
    assert first is True
    assert [type(end) for end in ends] == [Unavailable] * 3
