"""Exports: answers of many lines, of which each is one JSON object, read page by page as they are
taken.

Invariants:

- However long an export is, and however slowly it is taken, the process holds one page of it and a
  few chunks. Reading a page holds a thread and a connection for that page alone.
- Whoever asks may do so still, at each page: a token that is revoked meanwhile ends the export.
- What cannot be read to its end is cut off, so that nobody takes a part for the whole.
- A user has at most MAX_OF_ONE of MAX_EXPORTS at a time, of which one reads at a time, and reading
  takes at most half of the time: callers of trigger URLs share the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple
from uuid import UUID

from api.caller import Caller
from api.threads import Threads
from shared.errors import PointsmanError, TooMany, Unavailable

MAX_EXPORTS = 32
MAX_OF_ONE = 4

# Of the budget for files, for each: a page and what of it waits to be sent.
HELD_BYTES = 1024 * 1024

# Then it is cut off, however slowly it is taken: places are few.
MAX_SECONDS = 3_600.0

# A page that cannot be read, since PostgreSQL is away, is tried again after these pauses.
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class SomeLines(NamedTuple):
    """One page of lines. cursor: where the next one begins, None if this is the last one."""

    lines: bytes
    cursor: UUID | None


Read = Callable[[UUID | None], SomeLines]
"""Reads the page that begins there. It waits for PostgreSQL, and raises PointsmanError alone."""


class Lines:
    """The exports of one process, on its loop. One thread reads for all of them."""

    def __init__(self) -> None:
        self._threads = Threads("lines", 1, MAX_EXPORTS)
        self._under_way: dict[UUID, list[Flow]] = {}
        self._turns: dict[UUID, asyncio.Lock] = {}
        self._is_stopping = False

    async def begin(self, owner: UUID, read: Read, caller: Caller | None) -> Flow:
        """An export whose first page is read. It counts until it is closed.

        Raises TooMany when its owner has too many, Unavailable when the process has, and what the
        first page raises.
        """
        under_way = self._under_way.get(owner, [])
        if self._is_stopping:
            raise Unavailable("The process is stopping.")
        if len(under_way) >= MAX_OF_ONE:
            raise TooMany(
                f"You have {MAX_OF_ONE} exports under way.",
                code="too_many_exports",
                hint="Let one of them end first.",
            )
        if sum(map(len, self._under_way.values())) >= MAX_EXPORTS:
            raise Unavailable("Too many exports are under way in this process.")
        flow = Flow(self, owner, read, caller)
        self._under_way.setdefault(owner, []).append(flow)
        try:
            await flow.read_first()
        except BaseException:
            flow.close()
            raise
        return flow

    def ended(self, owner: UUID, flow: Flow) -> None:
        """Forget one of this owner's."""
        under_way = self._under_way.get(owner, [])
        if flow in under_way:
            under_way.remove(flow)
        if not under_way:
            self._under_way.pop(owner, None)
            self._turns.pop(owner, None)

    async def read(self, owner: UUID, read: Read, cursor: UUID | None) -> SomeLines:
        """A page, when it is its owner's turn; raises PointsmanError."""
        turn = self._turns.setdefault(owner, asyncio.Lock())
        async with turn:
            if self._is_stopping:
                raise Unavailable("The process is stopping.")
            began = asyncio.get_running_loop().time()
            found = await self._threads.call(read, cursor)
            if found.cursor is not None:
                await asyncio.sleep(asyncio.get_running_loop().time() - began)
            return found

    @property
    def is_cut(self) -> bool:
        """Whether nothing more is read."""
        return self._is_stopping

    def cut(self) -> None:
        """Cut off what is under way, each behind the page that it has."""
        self._is_stopping = True

    def stop(self) -> None:
        """The same, and wait for the page under way."""
        self.cut()
        self._threads.stop()


class Flow:
    """The lines of one export. Whoever has it closes it."""

    def __init__(self, lines: Lines, owner: UUID, read: Read, caller: Caller | None) -> None:
        self._lines = lines
        self._read = read
        self._caller = caller
        self._page = SomeLines(b"", None)
        self.owner = owner

    async def read_first(self) -> None:
        """Read the first page; raises PointsmanError."""
        self._page = await self._lines.read(self.owner, self._read, None)

    async def parts(self) -> AsyncGenerator[bytes]:
        """Page by page, until there is no more or the caller has gone; raises PointsmanError.

        A page may be empty, also the first one.
        """
        gone = None if self._caller is None else asyncio.ensure_future(self._caller.gone())
        try:
            while True:
                yield self._page.lines
                if self._page.cursor is None or (gone is not None and gone.done()):
                    return
                self._page = await self._next(self._page.cursor, gone)
        finally:
            if gone is not None:
                gone.cancel()

    async def _next(self, cursor: UUID, gone: asyncio.Future[None] | None) -> SomeLines:
        for pause in PAUSES_SECONDS:
            try:
                return await self._lines.read(self.owner, self._read, cursor)
            except PointsmanError as error:
                if not error.retryable or self._lines.is_cut or (gone is not None and gone.done()):
                    raise
            await asyncio.sleep(pause)
        return await self._lines.read(self.owner, self._read, cursor)

    def close(self) -> None:
        """Count no more. May be called again."""
        self._lines.ended(self.owner, self)
