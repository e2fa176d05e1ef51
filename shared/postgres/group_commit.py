"""Group commit: concurrent writers share one statement and one COMMIT.

Coroutines submit rows and await a future each. One thread takes whatever has gathered and flushes
it; while it does, the next batch gathers. What is always true:

- a future is resolved only after its row's transaction has committed (or certainly never will);
- one bad row fails alone: a batch that fails neither for a passing reason nor for one of the
  installation's is halved until the bad row stands by itself, and its neighbours are stored; if
  PostgreSQL refuses what it holds, its error is RowRejected;
- the queue is bounded in rows and bytes; beyond either, submit() raises Unavailable at once;
- a row whose caller gave up before its batch was sent is not sent, unless the commit is patient.

The callers of a batch are told all at once: it wakes their loop a single time.

`flush` must be safe to repeat after an ambiguous COMMIT (client-made keys, ON CONFLICT DO NOTHING,
or a fence).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import psycopg2
import structlog

from shared.errors import OutcomeUnknown, RowRejected, Unavailable
from shared.postgres.connections import USELESS, NotConnected
from shared.postgres.sqlstates import is_lost
from shared.threads import OwnedThread

Row = TypeVar("Row")
Result = TypeVar("Result")

OUTAGE_PAUSE_SECONDS = 0.25
MAX_OUTAGE_PAUSE_SECONDS = 2.0
SHUTDOWN_SECONDS = 5.0

log = structlog.get_logger("group_commit")


def is_content_error(error: Exception) -> bool:
    """Whether PostgreSQL (or psycopg2 before it) refuses what a row holds: SQLSTATE class 21, 22,
    23 or 54.
    """
    if isinstance(error, psycopg2.Error):
        return (error.pgcode or "")[:2] in {"21", "22", "23", "54"}
    return isinstance(error, ValueError)  # a NUL or a lone surrogate never reaches the server


def concerns_all(error: Exception) -> bool:
    """Whether it is the installation that is at fault, and not what a row holds: a table, a right
    or memory is missing.
    """
    return isinstance(error, (psycopg2.ProgrammingError, MemoryError))


def is_transient(error: Exception) -> bool:
    """Whether the same batch can succeed when repeated: lost connection, a server that takes no
    writes, outdated plan, serialization failure, deadlock.
    """
    if is_content_error(error):  # 54000, a limit exceeded, is an OperationalError too
        return False
    if isinstance(error, USELESS) or is_lost(error):
        return True
    return isinstance(error, psycopg2.Error) and (error.pgcode or "")[:2] in {"08", "40", "53", "57", "25"}


def _was_cut(error: Exception) -> bool:
    """Whether the connection ended before the server said how the batch did.

    An error of the server's bears a SQLSTATE, and then nothing was committed.
    """
    if isinstance(error, NotConnected) or not isinstance(error, USELESS):
        return False
    return getattr(error, "pgcode", None) is None


End = Callable[[Any, Any], None]


class _Entry(Generic[Row, Result]):
    __slots__ = ("future", "loop", "row", "size")

    def __init__(self, row: Row, size: int) -> None:
        self.row = row
        self.size = size
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()


class GroupCommit(Generic[Row, Result]):
    """One thread that stores rows in batches.

    flush: takes rows, commits them, returns one result for each, in order. It owns its connection.
    patient: False — a batch is repeated once after a lost connection, then its rows fail with
    Unavailable (a caller is waiting). True — it is repeated until PostgreSQL is back, whether or
    not somebody still waits (a result must not be forgotten).
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[Sequence[Row]], Sequence[Result]],
        *,
        max_batch_rows: int,
        max_batch_bytes: int,
        max_queue_rows: int,
        max_queue_bytes: int,
        patient: bool = False,
    ) -> None:
        self.name = name
        self._flush = flush
        self._max_batch_rows = max_batch_rows
        self._max_batch_bytes = max_batch_bytes
        self._max_queue_rows = max_queue_rows
        self._max_queue_bytes = max_queue_bytes
        self._patient = patient
        self._queue: deque[_Entry[Row, Result]] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._abandoned = False
        self._may_be_stored = False
        self.thread = OwnedThread(name, self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self, timeout_seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Store what is queued, then end. What is not stored in time fails with Unavailable.

        False when the thread is in a flush still. Its connection is not to be closed then: closing
        waits until the call under way has ended.
        """
        has_ended = self.thread.stop(self._end, timeout_seconds)
        self._abandoned = True
        with self._wake:
            self._wake.notify()
            left, self._queue = list(self._queue), deque()
        self._fail(left, lambda: Unavailable("The process is stopping."))
        return has_ended

    def _end(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def submit(self, row: Row, size: int) -> asyncio.Future[Result]:
        """Queue a row of about `size` bytes; the future, of the running loop, holds flush's result
        for it, or its error.

        Raises Unavailable when the queue is full or the process is stopping.
        """
        entry: _Entry[Row, Result] = _Entry(row, size)
        with self._wake:
            if self._stopping:
                raise Unavailable("The process is stopping.")
            if len(self._queue) >= self._max_queue_rows or self._queued_bytes + size > self._max_queue_bytes:
                raise Unavailable(f"The queue of {self.name} is full: PostgreSQL does not keep up.")
            self._queue.append(entry)
            self._queued_bytes += size
            if len(self._queue) == 1:
                self._wake.notify()
        return entry.future

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if not self._queue:
                    return
                batch = self._take()
            live = [entry for entry in batch if self._patient or not entry.future.cancelled()]
            if live:
                self._store(live)

    def _take(self) -> list[_Entry[Row, Result]]:
        batch: list[_Entry[Row, Result]] = []
        size = 0
        while self._queue and len(batch) < self._max_batch_rows:
            if batch and size + self._queue[0].size > self._max_batch_bytes:
                break
            entry = self._queue.popleft()
            size += entry.size
            batch.append(entry)
        self._queued_bytes -= size
        return batch

    def _store(self, batch: list[_Entry[Row, Result]]) -> None:
        try:
            results = self._flush_through_outage([entry.row for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} rows")
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the batch's callers
            self._explain(batch, error)
            return
        _tell(batch, results, _succeed)

    def _explain(self, batch: list[_Entry[Row, Result]], error: Exception) -> None:
        """Give a failed batch's callers their error, after isolating a bad row by halving."""
        if is_transient(error):
            log.warning("flush_failed", queue=self.name, rows=len(batch), error=_first_line(error))
            failure = OutcomeUnknown if self._may_be_stored else Unavailable
            self._fail(batch, lambda: failure("PostgreSQL is not available."))
        elif len(batch) > 1 and (is_content_error(error) or not concerns_all(error)):
            middle = len(batch) // 2
            self._store(batch[:middle])
            self._store(batch[middle:])
        elif is_content_error(error):
            log.warning("row_rejected", queue=self.name, error=type(error).__name__)
            rejected = RowRejected("This cannot be stored.")
            rejected.__cause__ = error
            self._fail(batch, lambda: rejected)
        else:
            log.error("flush_broken", queue=self.name, rows=len(batch), exc_info=error)
            self._fail(batch, lambda: error)

    def _flush_through_outage(self, rows: list[Row]) -> Sequence[Result]:
        """Flush; after a lost connection once more, or, when patient, until it succeeds."""
        tries = 0
        self._may_be_stored = False
        while True:
            try:
                return self._flush(rows)
            except Exception as error:
                tries += 1
                self._may_be_stored |= _was_cut(error)
                if not is_transient(error) or (tries > 1 and not self._patient) or self._abandoned:
                    raise
                if tries > 1:
                    log.warning("flush_waits", queue=self.name, rows=len(rows), error=_first_line(error))
                    time.sleep(min(OUTAGE_PAUSE_SECONDS * tries, MAX_OUTAGE_PAUSE_SECONDS))

    @staticmethod
    def _fail(batch: list[_Entry[Row, Result]], error: Callable[[], Exception]) -> None:
        """End each future with an error: of its own, where it is one of ours.

        One error raised in many coroutines would hold the frames, and so the rows, of all of them.
        """
        _tell(batch, [error() for _ in batch], _fail)


def _tell(batch: Sequence[_Entry[Any, Any]], outcomes: Sequence[Any], end: End) -> None:
    """End each entry's future with its outcome, on the loop where somebody waits for it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for entry, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(entry.loop, []).append((entry.future, outcome))
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited on it
            loop.call_soon_threadsafe(_end_all, told, end)


def _end_all(told: Iterable[tuple[asyncio.Future[Any], Any]], end: End) -> None:
    for future, outcome in told:
        if not future.done():
            end(future, outcome)


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    future.set_exception(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
