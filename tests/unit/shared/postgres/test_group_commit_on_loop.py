"""The group commit as coroutines see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from shared.errors import RowRejected
from shared.postgres.group_commit import GroupCommit
from tests.loops import later
from tests.unit.shared.postgres.test_group_commit import BadValue


@contextmanager
def commits(
    flush: Callable[[Sequence[int]], Sequence[int]], patient: bool = False, started: bool = True, /
) -> Iterator[GroupCommit[int, int]]:
    group: GroupCommit[int, int] = GroupCommit(
        "test",
        flush,
        max_batch_rows=100,
        max_batch_bytes=10**6,
        max_queue_rows=1000,
        max_queue_bytes=10**6,
        patient=patient,
    )
    if started:
        group.start()
    try:
        yield group
    finally:
        group.stop(5)


def test_a_batch_wakes_its_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each row wakes the loop by itself: under load that cost more than the rows did."""

    async def story() -> int:
        loop, wakes = asyncio.get_running_loop(), 0
        original = loop.call_soon_threadsafe

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return original(*args, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        with commits(lambda rows: [row * 10 for row in rows], False, False) as group:
            futures = [group.submit(n, 1) for n in range(50)]
            group.start()
            assert await asyncio.gather(*futures) == [n * 10 for n in range(50)]
        return wakes

    assert asyncio.run(story()) == 1


def test_a_bad_row_raises_on_the_loop_and_only_its_own() -> None:
    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 13 in rows:
            raise BadValue
        return rows

    async def story() -> list[Any]:
        with commits(flush, False, False) as group:
            futures = [group.submit(n, 1) for n in range(20)]
            group.start()
            return await asyncio.gather(*futures, return_exceptions=True)

    ends = asyncio.run(story())
    assert isinstance(ends[13], RowRejected)
    assert [end for end in ends if not isinstance(end, RowRejected)] == [n for n in range(20) if n != 13]


@pytest.mark.parametrize("patient", [False, True])
def test_a_row_whose_coroutine_gave_up_is_sent_by_the_patient_only(patient: bool) -> None:
    """An answer that nobody waits for need not be recorded; the result of an attempt must be."""
    sent: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        sent.extend(rows)
        return rows

    async def story() -> None:
        with commits(flush, patient, False) as group:
            first, second = group.submit(1, 1), group.submit(2, 1)
            first.cancel()
            group.start()
            assert await second == 2

    asyncio.run(story())
    assert sent == ([1, 2] if patient else [2])


def test_loops_share_a_batch_and_each_is_told_on_its_own() -> None:
    """Fails when a future of one loop is ended on another's thread: whoever awaits it would not
    wake.
    """
    batches: list[list[int]] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        batches.append(list(rows))
        return [row * 10 for row in rows]

    async def story() -> list[int]:
        with commits(flush, False, False) as group:
            elsewhere, here = later(group.submit, 1, 1), group.submit(2, 1)
            group.start()
            return [await here, elsewhere.result(5)]

    assert asyncio.run(story()) == [20, 10]
    assert batches == [[1, 2]]


def test_a_loop_that_has_ended_keeps_nobody_else_waiting() -> None:
    """Fails when telling a closed loop raises in the thread that all others wait for."""
    flushing, go_on = threading.Event(), threading.Event()

    def flush(rows: Sequence[int]) -> Sequence[int]:
        flushing.set()
        assert go_on.wait(5)
        return rows

    with commits(flush) as group:

        async def story() -> None:
            group.submit(1, 1)
            await asyncio.to_thread(flushing.wait, 5)

        asyncio.run(story())
        go_on.set()
        assert later(group.submit, 2, 1).result(5) == 2
