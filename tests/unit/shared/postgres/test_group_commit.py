"""The group commit, with a flush that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg2
import psycopg2.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.errors import OutcomeUnknown, RowRejected, Unavailable
from shared.postgres import group_commit
from shared.postgres.connections import NotConnected
from shared.postgres.group_commit import GroupCommit, is_content_error, is_transient
from tests.loops import Later, later


class BadValue(psycopg2.DataError):  # type: ignore[misc]
    pgcode = "22P05"


class Clash(psycopg2.IntegrityError):  # type: ignore[misc]
    pgcode = "23505"


class FromHere:
    """A group commit whose rows a test submits from its own thread; each is awaited on a loop in
    another.
    """

    def __init__(self, group: GroupCommit[int, int]) -> None:
        self._group = group
        self.start, self.stop = group.start, group.stop

    def submit(self, row: int, size: int) -> Later[int]:
        return later(self._group.submit, row, size)


@contextmanager
def commits(
    flush: Callable[[Sequence[int]], Sequence[int]],
    patient: bool = False,
    started: bool = True,
    /,
    **bounds: int,
) -> Iterator[FromHere]:
    limits = {
        "max_batch_rows": 100,
        "max_batch_bytes": 10**6,
        "max_queue_rows": 1000,
        "max_queue_bytes": 10**6,
    }
    made = FromHere(GroupCommit("test", flush, patient=patient, **(limits | bounds)))
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


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), RuntimeError("x")])
def test_one_row_that_raises_in_python_fails_alone(error: Exception) -> None:
    """Fails when a fault of ours in one row is handed to all of its neighbours."""

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 3 in rows:
            raise error
        return rows

    with commits(flush, False, False) as group, capture_logs():
        futures = [group.submit(n, 1) for n in range(7)]
        group.start()
        for n, future in enumerate(futures):
            if n == 3:
                with pytest.raises(type(error)):
                    future.result(5)
            else:
                assert future.result(5) == n


def test_a_fault_of_the_installation_is_not_asked_for_again_row_by_row() -> None:
    """Fails when a missing table makes one flush of fifty rows a hundred."""
    flushes: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        flushes.append(len(rows))
        raise psycopg2.ProgrammingError("no such table")

    with commits(flush, False, False) as group, capture_logs():
        futures = [group.submit(n, 1) for n in range(7)]
        group.start()
        for future in futures:
            with pytest.raises(psycopg2.ProgrammingError):
                future.result(5)
    assert sum(flushes) == 7


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


@pytest.mark.parametrize(
    ("failures", "end"),
    [
        ([NotConnected("refused"), NotConnected("refused")], Unavailable),
        ([psycopg2.OperationalError("cut"), NotConnected("refused")], OutcomeUnknown),
        ([NotConnected("refused"), psycopg2.OperationalError("cut")], OutcomeUnknown),
    ],
)
def test_whoever_may_have_been_stored_is_told_so_and_others_that_they_were_not(
    failures: list[Exception], end: type[Unavailable]
) -> None:
    """Fails when a caller whose row was committed hears that nothing was accepted."""
    left = list(failures)

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if left:
            raise left.pop(0)
        return rows

    with commits(flush) as group:
        assert type(group.submit(1, 1).exception(5)) is end
        left.append(NotConnected("refused"))
        left.append(NotConnected("refused"))
        assert type(group.submit(2, 1).exception(5)) is Unavailable, "each batch is judged by itself"


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
        assert group.stop(5)
        assert [future.result(5) for future in futures] == list(range(5))
        with pytest.raises(Unavailable):
            group.submit(1, 1)


def pg_error(sqlstate: str) -> Exception:
    """What psycopg2 raises for this SQLSTATE."""
    kind = type("Raised", (psycopg2.errors.lookup(sqlstate),), {"pgcode": sqlstate})
    error: Exception = kind("raised by a test")
    return error


@pytest.mark.parametrize(
    "sqlstate", ["21000", "22003", "22021", "22P05", "23502", "23505", "23514", "54000", "54001"]
)
def test_these_say_that_a_row_cannot_be_stored(sqlstate: str) -> None:
    assert is_content_error(pg_error(sqlstate))
    assert not is_transient(pg_error(sqlstate)), "a patient writer would repeat it for ever"


@pytest.mark.parametrize(
    "sqlstate", ["08006", "0A000", "25006", "40001", "40P01", "53100", "53300", "57014", "57P01", "57P03"]
)
def test_these_say_that_postgresql_is_away_or_busy(sqlstate: str) -> None:
    assert is_transient(pg_error(sqlstate))
    assert not is_content_error(pg_error(sqlstate)), "halving would ask a dead server once for each row"


@pytest.mark.parametrize("error", [pg_error("42P01"), pg_error("42601"), KeyError("x"), TypeError("x")])
def test_these_are_faults_of_ours(error: Exception) -> None:
    assert not is_content_error(error)
    assert not is_transient(error)


def test_a_connection_that_was_closed_under_us_is_an_outage() -> None:
    for error in (
        psycopg2.OperationalError("server closed the connection"),
        psycopg2.InterfaceError("closed"),
    ):
        assert is_transient(error)
    assert is_content_error(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"))


@settings(deadline=None)
@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=12), st.integers(1, 60))
def test_bad_rows_fail_alone_and_all_others_are_stored_once_and_in_order(
    count: int, bad: set[int], max_batch_rows: int
) -> None:
    stored: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if bad.intersection(rows):
            raise BadValue("x")  # the transaction rolls back: nothing of it is stored
        stored.extend(rows)
        return [-row for row in rows]

    with commits(flush, False, False, max_batch_rows=max_batch_rows) as group:
        futures = [group.submit(n, 1) for n in range(count)]
        group.start()
        for n, future in enumerate(futures):
            error = future.exception(5)
            assert isinstance(error, RowRejected) if n in bad else error is None and future.result(5) == -n
    assert stored == [n for n in range(count) if n not in bad]


def test_one_bad_row_costs_few_statements() -> None:
    """Fails when a refused batch is sent row by row: 1,000 rows would be 1,000 commits."""
    statements: list[int] = []

    def flush(rows: Sequence[int]) -> Sequence[int]:
        statements.append(len(rows))
        if 640 in rows:
            raise BadValue("x")
        return rows

    with commits(flush, False, False, max_batch_rows=1000) as group:
        for n in range(1000):
            group.submit(n, 1)
        group.start()
    assert len(statements) <= 21  # the whole, and at most two halves for each of ten halvings


def test_an_outage_amid_the_halving_fails_only_what_was_not_stored() -> None:
    outage = [psycopg2.OperationalError("gone"), psycopg2.OperationalError("gone")]

    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 1 in rows:
            raise BadValue("x")
        if 2 in rows and outage:
            raise outage.pop()
        return rows

    with commits(flush, False, False) as group:
        futures = [group.submit(n, 1) for n in range(4)]
        group.start()
        assert futures[0].result(5) == 0
        assert isinstance(futures[1].exception(5), RowRejected)
        ends = [future.exception(5) for future in futures[2:]]
        assert [type(end) for end in ends] == [OutcomeUnknown, OutcomeUnknown]
        assert ends[0] is not ends[1], "an error of many would hold the frames of all of them"


def test_a_patient_writer_keeps_the_order_through_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "OUTAGE_PAUSE_SECONDS", 0.001)
    stored: list[int] = []
    tries = 0
    away, back = threading.Event(), threading.Event()

    def flush(rows: Sequence[int]) -> Sequence[int]:
        nonlocal tries
        tries += 1
        if tries > 3:
            away.set()
        if not back.is_set():
            raise psycopg2.OperationalError("gone")
        stored.extend(rows)
        return rows

    with commits(flush, True, max_batch_rows=7) as group:
        futures = [group.submit(0, 1)]
        assert away.wait(5)
        futures += [group.submit(n, 1) for n in range(1, 30)]
        back.set()
        assert [future.result(5) for future in futures] == list(range(30))
    assert stored == list(range(30))


def test_a_patient_writer_isolates_a_bad_row_and_does_not_repeat_it_for_ever() -> None:
    def flush(rows: Sequence[int]) -> Sequence[int]:
        if 1 in rows:
            raise Clash("x")
        return rows

    with commits(flush, True, False) as group:
        futures = [group.submit(n, 1) for n in range(3)]
        group.start()
        assert isinstance(futures[1].exception(5), RowRejected)
        assert (futures[0].result(5), futures[2].result(5)) == (0, 2)


def test_what_was_sent_is_stored_whoever_gives_up_and_what_waits_can_be_taken_back() -> None:
    sent: list[int] = []
    busy, go_on = threading.Event(), threading.Event()

    def flush(rows: Sequence[int]) -> Sequence[int]:
        sent.extend(rows)
        busy.set()
        assert go_on.wait(5)
        return rows

    with commits(flush) as group:
        first = group.submit(1, 1)
        assert busy.wait(5)
        waiting, kept = group.submit(2, 1), group.submit(3, 1)
        first.cancel()
        assert waiting.cancel()
        go_on.set()
        assert kept.result(5) == 3
    assert sent == [1, 3]


@pytest.mark.parametrize("bounds", [{"max_queue_rows": 2}, {"max_queue_bytes": 20}])
def test_a_queue_that_was_full_takes_rows_again(bounds: dict[str, int]) -> None:
    """Fails when the bytes of what was sent, or given up, are not given back."""
    with commits(echo, False, False, **bounds) as group:
        first, given_up = group.submit(1, 10), group.submit(2, 10)
        with pytest.raises(Unavailable):
            group.submit(3, 10)
        given_up.cancel()
        group.start()
        assert first.result(5) == 1
        for n in range(20):
            assert group.submit(n, 10).result(5) == n


def test_stop_does_not_wait_for_a_flush_that_hangs_and_nobody_is_left_waiting() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def flush(rows: Sequence[int]) -> Sequence[int]:
        busy.set()
        assert go_on.wait(5)
        return rows

    with commits(flush) as group:
        in_hand = group.submit(1, 1)
        assert busy.wait(5)
        queued = [group.submit(n, 1) for n in range(5)]
        queued[0].cancel()
        assert not group.stop(0.05), "its thread goes on, with its connection"
        assert [type(future.exception(5)) for future in queued[1:]] == [Unavailable] * 4
        assert not in_hand.done()
        go_on.set()
        assert in_hand.result(5) == 1, "it was committed, and its caller hears so"


def test_stop_ends_a_patient_writer_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "OUTAGE_PAUSE_SECONDS", 0.001)
    tried = threading.Event()

    def flush(_rows: Sequence[int]) -> Sequence[int]:
        tried.set()
        raise psycopg2.OperationalError("gone")

    with commits(flush, True) as group:
        future = group.submit(1, 1)
        assert tried.wait(5)
        group.stop(0.05)
        assert isinstance(future.exception(5), Unavailable)


def test_a_writer_that_never_started_fails_what_it_was_given() -> None:
    with commits(echo, False, False) as group:
        future = group.submit(1, 1)
        group.stop(0.05)
        assert isinstance(future.exception(5), Unavailable)


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_a_flush_that_answers_for_too_few_or_too_many_rows_leaves_nobody_waiting(answered: int) -> None:
    """Fails when it ends the thread: every later caller would wait for its full time, for ever."""

    def flush(rows: Sequence[int]) -> Sequence[int]:
        return [0] * answered if len(rows) == 2 else rows

    with commits(flush, False, False) as group:
        futures = [group.submit(n, 1) for n in range(2)]
        group.start()
        for future in futures:
            future.exception(0.5)
        assert group.submit(7, 1).result(2) == 7
