"""The group commit, with a flush that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg2
import pytest

from shared.errors import RowRejected, Unavailable
from shared.group_commit import GroupCommit


class BadValue(psycopg2.DataError):  # type: ignore[misc]
    pgcode = "22P05"


class Clash(psycopg2.IntegrityError):  # type: ignore[misc]
    pgcode = "23505"


@contextmanager
def commits(
    flush: Callable[[Sequence[int]], Sequence[int]],
    patient: bool = False,
    started: bool = True,
    /,
    **bounds: int,
) -> Iterator[GroupCommit[int, int]]:
    limits = {
        "max_batch_rows": 100,
        "max_batch_bytes": 10**6,
        "max_queue_rows": 1000,
        "max_queue_bytes": 10**6,
    }
    made: GroupCommit[int, int] = GroupCommit("test", flush, patient=patient, **(limits | bounds))
    if started:
        made.start()
    try:
        yield made
    finally:
        made.stop(5)


def echo(rows: Sequence[int]) -> Sequence[int]:
    return rows


def test_each_future_gets_the_result_of_its_own_row() -> None:
    with commits(lambda rows: [row * 10 for row in rows]) as group:
        futures = [group.submit(n, 1) for n in range(50)]
        assert [future.result(5) for future in futures] == [n * 10 for n in range(50)]


def test_rows_gather_while_a_flush_runs() -> None:
    batches: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def flush(rows: Sequence[int]) -> Sequence[int]:
        batches.append(len(rows))
        first.set()
        assert go_on.wait(5)
        return rows

    with commits(flush) as group:
        futures = [group.submit(0, 1)]
        assert first.wait(5)
        futures += [group.submit(n, 1) for n in range(20)]
        go_on.set()
        for future in futures:
            future.result(5)
    assert batches == [1, 20]


def test_batches_are_bounded_in_rows_and_bytes() -> None:
    batches: list[list[int]] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        batches.append(list(rows))
        return rows

    with commits(flush, False, False, max_batch_rows=3, max_batch_bytes=10) as group:
        for n, size in enumerate([1, 1, 1, 6, 6, 99]):
            group.submit(n, size)
        group.start()
    assert batches == [[0, 1, 2], [3], [4], [5]]


@pytest.mark.parametrize("error", [BadValue("x"), Clash("x"), ValueError("NUL")])
def test_one_bad_row_among_fifty_fails_alone(error: Exception) -> None:
    """Fails without the halving."""

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 25 in rows:
            raise error
        return rows

    with commits(flush, False, False) as group:
        futures = [group.submit(n, 1) for n in range(51)]
        group.start()
        for n, future in enumerate(futures):
            if n == 25:
                with pytest.raises(RowRejected) as rejected:
                    future.result(5)
                assert rejected.value.__cause__ is error
            else:
                assert future.result(5) == n


def test_a_lost_connection_is_repeated_once() -> None:
    failures = [psycopg2.OperationalError("gone")]

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if failures:
            raise failures.pop()
        return rows

    with commits(flush) as group:
        assert group.submit(1, 1).result(5) == 1


def test_an_outage_fails_the_impatient_and_not_the_patient() -> None:
    tries: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        tries.append(1)
        if len(tries) < 4:
            raise psycopg2.OperationalError("gone")
        return rows

    with commits(flush) as impatient, pytest.raises(Unavailable):
        impatient.submit(1, 1).result(5)
    assert len(tries) == 2
    tries.clear()
    with commits(flush, True) as patient:
        assert patient.submit(1, 1).result(10) == 1


def test_a_fault_of_ours_reaches_the_caller_and_the_thread_lives_on() -> None:
    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 1 in rows:
            raise KeyError("ours")
        return rows

    with commits(flush) as group:
        with pytest.raises(KeyError):
            group.submit(1, 1).result(5)
        assert group.submit(2, 1).result(5) == 2


@pytest.mark.parametrize(("bounds", "fits"), [({"max_queue_rows": 3}, 3), ({"max_queue_bytes": 25}, 2)])
def test_a_full_queue_refuses_at_once(bounds: dict[str, int], fits: int) -> None:
    with commits(echo, False, False, **bounds) as group:
        for n in range(fits):
            group.submit(n, 10)
        with pytest.raises(Unavailable):
            group.submit(9, 10)
        group.start()


def test_a_row_whose_caller_gave_up_is_not_sent() -> None:
    sent: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        sent.extend(rows)
        return rows

    with commits(flush, False, False) as group:
        assert group.submit(1, 1).cancel()
        group.submit(2, 1)
        group.start()
    assert sent == [2]


def test_stop_stores_what_is_queued_and_then_refuses() -> None:
    with commits(echo, False, False) as group:
        futures = [group.submit(n, 1) for n in range(5)]
        group.start()
        group.stop(5)
        assert [future.result(0) for future in futures] == list(range(5))
        with pytest.raises(Unavailable):
            group.submit(1, 1)
