"""PostgreSQL's clock, as this process knows it.

Owns the offset between this host's steady clock and PostgreSQL's `clock_timestamp()`; keys and
times that two machines must agree on are made from it. So a wall clock that is set changes nothing;
it is looked at only before the first measurement. The offset is one number that is replaced whole,
so that threads need no lock to read it. It never asks PostgreSQL by itself: whoever owns a
connection calls measure() at the start and now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

# The quickest of three round trips: one that met a busy moment is off by half its length.
SAMPLES = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUERY = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Cursor(Protocol):
    """What measure() needs of a psycopg2 cursor."""

    def execute(self, query: str, /) -> Any: ...
    def fetchone(self) -> Any: ...


class DatabaseClock:
    """Tells PostgreSQL's time without asking it.

    wall_ns is this host's wall clock, steady_ns one that is never set: round trips are timed with
    the second, so that a wall clock set in the middle of one cannot make it look short.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._offset_ns: int | None = None  # from the steady clock to PostgreSQL's
        self._ahead_ns = 0

    @property
    def is_measured(self) -> bool:
        """Whether the offset was ever measured."""
        return self._offset_ns is not None

    @property
    def offset_ms(self) -> float:
        """How far PostgreSQL's clock was ahead of this host's wall clock (negative: behind), in ms,
        when measured.
        """
        return self._ahead_ns / 1e6

    def measure(self, cursor: Cursor) -> float:
        """Measure the offset anew and return it in ms; errors of the cursor leave the old one in
        place.

        PostgreSQL is taken to have read its clock in the middle of the round trip, so the error is
        at most half of the quickest one.
        """
        _, self._offset_ns, self._ahead_ns = min(self._sample(cursor) for _ in range(SAMPLES))
        return self.offset_ms

    def now(self) -> datetime:
        """PostgreSQL's time, in UTC."""
        return _EPOCH + timedelta(microseconds=self._now_ns() // 1000)

    def now_ms(self) -> int:
        """PostgreSQL's time in whole ms since 1970."""
        return self._now_ns() // 1_000_000

    def _now_ns(self) -> int:
        offset_ns = self._offset_ns
        return self._wall_ns() if offset_ns is None else self._steady_ns() + offset_ns

    def _sample(self, cursor: Cursor) -> tuple[int, int, int]:
        """One round trip: its length, and what it shows as offset to the steady and to the wall
        clock, all in ns.
        """
        sent_steady, sent_wall = self._steady_ns(), self._wall_ns()
        cursor.execute(_QUERY)
        (answered_us,) = cursor.fetchone()
        length = self._steady_ns() - sent_steady
        answered_ns = answered_us * 1000 - length // 2
        return length, answered_ns - sent_steady, answered_ns - sent_wall


database_clock = DatabaseClock()
"""The one clock of this process."""
