"""A body under a head that contradicts itself: it is read as far as it goes.

Invariants:

- It always ends: by what it is, by what its head said of it, or when nothing more has come for
  QUIET_SECONDS.
- It is read as chunks only if it begins with the size of one. Otherwise it is what came, up to the
  length that the head gave.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

from aiohttp.streams import StreamReader

from worker.egress.heads import Tidied

# Such a body is over when it has not gone on for so long.
QUIET_SECONDS = 1.0

# A longer line of a chunk's size is none.
MAX_CHUNK_LINE_BYTES = 4 * 1024

_CHUNK_LINE = re.compile(rb"[0-9a-fA-F]{1,15}[ \t]*(?:;[^\r\n]*)?\r\n")
_BEGUN_CHUNK_LINE = re.compile(rb"(?:[0-9a-fA-F]{1,15}(?:[ \t]*(?:;[^\r\n]*)?\r?)?)?")


class Reading(Protocol):
    """What reads the answer that it belongs to."""

    def parse_body(self, data: bytes) -> None:
        """Read a piece of it as the head that was tidied says."""

    def note_unreadable(self) -> None:
        """It was not what its head said."""

    def note_behind(self) -> None:
        """There was more than the length; ends it."""

    def end(self) -> None:
        """It is over."""


class DoubtfulBody:
    """Feeds one body, which begins with the first call of feed()."""

    def __init__(self, reading: Reading, body: StreamReader, tidied: Tidied) -> None:
        self._reading = reading
        self._body = body
        self._tidied = tidied
        # as long as it may be the size of a chunk
        self._first_line: bytes | None = b"" if tidied.is_chunked else None
        self._left: int | None = None  # of a body that is taken as it is
        self._is_bare = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, data: bytes) -> None:
        """Read what came with the head."""
        if not data and self._tidied.length == 0:  # of its two lengths this one is met
            self._reading.end()
        else:
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """Read a piece, and wait for the next."""
        if self._first_line is not None:
            data = self._first_line + data
            if len(data) <= MAX_CHUNK_LINE_BYTES and _BEGUN_CHUNK_LINE.fullmatch(data):
                self._first_line = data
            else:
                self._first_line = None
                self._is_bare = _CHUNK_LINE.match(data) is None
                self._left = self._tidied.length
        if self._is_bare:
            self._feed_bare(data)
        elif self._first_line is None:
            self._reading.parse_body(data)
        self._wait()

    def give_up(self) -> None:
        """No more of it comes: what there is of it is the body."""
        self._reading.note_unreadable()
        line, self._first_line = self._first_line, None
        if line and not self._body.is_eof():
            self._body.feed_data(line[: self._tidied.length])
        self._reading.end()

    def stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed_bare(self, data: bytes) -> None:
        self._reading.note_unreadable()
        kept = data if self._left is None else data[: self._left]
        if kept:
            self._body.feed_data(kept)
        if self._left is None:
            return
        self._left -= len(kept)
        if len(kept) < len(data):
            self._reading.note_behind()
        elif self._left == 0:
            self._reading.end()

    def _wait(self) -> None:
        self.stop_waiting()
        if not self._body.is_eof():
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self.give_up)
