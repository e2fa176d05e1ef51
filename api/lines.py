"""Answers of many lines, of which each is one JSON object: read page by page as they are taken.

Invariants:

- However long an answer is, and however slowly it is taken, the process holds one page of it.
  Reading one holds a thread and a connection for that page alone.
- Whoever asks may do so still, at each page: a token that is revoked meanwhile ends the answer.
- What cannot be read to its end is cut off, so that nobody takes a part for the whole.
- One user has at most MOST_OF_ONE of MOST such answers at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple
from uuid import UUID

from api.caller import Caller
from api.threads import Threads
from shared.errors import PointsmanError, TooMany, Unavailable

MOST = 32
MOST_OF_ONE = 4

# A page that cannot be read, since PostgreSQL is away, is tried again for so long.
RETRY_SECONDS = 60.0
PAUSE_SECONDS = 1.0


class SomeLines(NamedTuple):
    """One page of lines. cursor: where the next one begins, None if this is the last one."""

    lines: bytes
    cursor: UUID | None


Read = Callable[[UUID], SomeLines]
"""Reads the page that begins there. It waits for PostgreSQL, and raises PointsmanError alone."""


class Lines:
    """Who takes lines in one process. One thread reads for all of them."""

    def __init__(self) -> None:
        self._threads = Threads("lines", 1, MOST)
        self._lock = threading.Lock()
        self._under_way: Counter[UUID] = Counter()
        self.is_stopping = False

    def begin(self, owner: UUID, first: SomeLines, read: Read, caller: Caller | None) -> Flow:
        """An answer that begins with this page. It counts until it is closed.

        Raises TooMany when its owner has too many, Unavailable when the process has.
        """
        with self._lock:
            if self._under_way[owner] >= MOST_OF_ONE:
                raise TooMany(
                    f"You have {MOST_OF_ONE} exports under way.",
                    code="too_many_exports",
                    hint="Let one of them end first.",
                )
            if self._under_way.total() >= MOST:
                raise Unavailable("Too many exports are under way in this process.")
            self._under_way[owner] += 1
        return Flow(self, owner, first, read, caller)

    def end(self, owner: UUID) -> None:
        """One of this owner's has ended."""
        with self._lock:
            self._under_way -= Counter([owner])

    async def read(self, read: Read, cursor: UUID) -> SomeLines:
        """A page, however long PostgreSQL is away; raises PointsmanError in the end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RETRY_SECONDS
        while True:
            try:
                return await self._threads.call(read, cursor)
            except PointsmanError as error:
                if not error.retryable or self.is_stopping or loop.time() > deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        """Cut off what is under way."""
        self.is_stopping = True
        self._threads.stop()


class Flow:
    """The lines of one answer. Whoever has it closes it."""

    def __init__(
        self, lines: Lines, owner: UUID, first: SomeLines, read: Read, caller: Caller | None
    ) -> None:
        self._lines = lines
        self._owner: UUID | None = owner
        self._part = first
        self._read = read
        self._caller = caller

    async def parts(self) -> AsyncGenerator[bytes]:
        """Page by page, until there is no more or the caller has gone; raises PointsmanError."""
        gone = None if self._caller is None else asyncio.ensure_future(self._caller.gone())
        try:
            while True:
                if self._part.lines:
                    yield self._part.lines
                if self._part.cursor is None or (gone is not None and gone.done()):
                    return
                self._part = await self._lines.read(self._read, self._part.cursor)
        finally:
            if gone is not None:
                gone.cancel()

    def close(self) -> None:
        """Count no more. May be called again."""
        owner, self._owner = self._owner, None
        if owner is not None:
            self._lines.end(owner)
