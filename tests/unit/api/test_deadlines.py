"""Time limits that share one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from api.deadlines import Deadlines

SHORT = 0.05


def test_what_is_awaited_too_long_is_cancelled() -> None:
    async def run() -> bool:
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            async with Deadlines(SHORT).limit():
                await future
        return future.cancelled()

    assert asyncio.run(run())


def test_a_block_that_ended_in_time_is_never_cancelled() -> None:
    """Fails when a limit outlives its block: the task would be cancelled in whatever it does
    next.
    """

    async def run() -> None:
        deadlines = Deadlines(SHORT)
        async with deadlines.limit():
            await asyncio.sleep(0)
        await asyncio.sleep(2 * SHORT)

    asyncio.run(run())


def test_each_limit_runs_from_its_own_beginning() -> None:
    """Fails when the one timer is not started anew for those that began later, or ends them with
    the first.
    """

    async def one(deadlines: Deadlines, after: float) -> float:
        await asyncio.sleep(after)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with deadlines.limit():
                await asyncio.sleep(30)
        return time.monotonic() - began

    async def run() -> list[float]:
        deadlines = Deadlines(4 * SHORT)
        return await asyncio.gather(*(one(deadlines, number * SHORT) for number in range(4)))

    assert all(4 * SHORT - 0.005 <= seconds < 5 for seconds in asyncio.run(run()))


def test_the_next_limit_holds_after_an_earlier_block_was_left() -> None:
    async def run() -> None:
        deadlines = Deadlines(SHORT)
        async with deadlines.limit():
            await asyncio.sleep(SHORT / 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), deadlines.limit():
                await asyncio.Event().wait()
        await asyncio.sleep(2 * SHORT)  # all are over: the timer stops
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), deadlines.limit():
                await asyncio.Event().wait()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 4, "it was the limit that ended them, not the timeout around it"


def test_somebody_elses_cancelling_stays_one() -> None:
    async def run() -> None:
        async with Deadlines(30).limit():
            await asyncio.sleep(30)

    async def cancelled() -> bool:
        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_other_errors_pass_through() -> None:
    async def run() -> None:
        async with Deadlines(30).limit():
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        asyncio.run(run())


def test_blocks_that_were_left_are_forgotten() -> None:
    """Guards: a busy server keeps no more limits than it has requests, however long they would
    still run.
    """

    async def run() -> int:
        deadlines = Deadlines(30)
        for _ in range(1_000):
            async with deadlines.limit():
                await asyncio.sleep(0)
        return len(deadlines._running)

    assert asyncio.run(run()) == 1
