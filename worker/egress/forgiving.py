"""Answers whose framing is untidy: their head counts, and what was odd is noted.

Invariants:

- A status line and a head that came whole decide. Bytes behind an answer do not undo it.
- A head that gives two lengths, or none that can be read, is still no head.
- An answer with a remark must be the last on its connection: where the next one begins is unknown.
- All that can be wrong in a tidy answer is what it was: a body that breaks off or is no body.

aiohttp's parser reads everything. It is asked again, with a head that says one thing of the length,
only where it has refused a whole piece. Source: RFC 9112 §6.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import hdrs
from aiohttp.http import HttpVersion11, RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

Message = tuple[RawResponseMessage, StreamReader]
Found = tuple[Sequence[Message], bool, bytes]

BEHIND = "There were bytes behind its end."
LENGTHS = "It gave its length more than once."
CODING = "It had a Transfer-Encoding other than chunked."
UNREADABLE = "Its body was not what its head said."

SWITCHING_PROTOCOLS = 101
_NOTHING: Found = ((), False, b"")

# In either form of line end, as the parser takes them.
_HEAD_END = re.compile(rb"\n\r?\n")
_FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding)[ \t]*:([^\r\n]*)\r?\n")
_FOLDED = re.compile(rb"\n[ \t]")
_LENGTH = re.compile(rb"[0-9]{1,18}")


def is_interim(message: RawResponseMessage) -> bool:
    """Whether another head follows, which is the answer."""
    return 100 <= message.code < 200 and message.code != SWITCHING_PROTOCOLS


class ForgivingParser:
    """Reads one answer. It has the methods of the parser that a connection of aiohttp uses.

    parser: what reads. fresh: makes another such parser. remark: what was odd, None so far.
    """

    # Defaults of the class, since most answers come whole and change none of them.
    remark: str | None = None
    _body: StreamReader | None = None
    _ended = False
    _kept: bytearray | None = None  # of a head that has not come whole
    _searched = 0  # up to where its end is not
    _refusal: HttpProcessingError | None = None

    def __init__(self, parser: Any, fresh: Callable[[], Any]) -> None:
        self._parser = parser
        self._fresh = fresh

    def feed_data(self, data: bytes) -> Found:
        """Read a piece.

        Returns at most one message that is not interim; raises HttpProcessingError for what is no
        answer.
        """
        if self._body is not None:
            self._feed_body(data)
            return _NOTHING
        if self._refusal is not None:
            self._seen.extend(data)
            return self._read_again(self._refusal), False, b""
        try:
            found: Found = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._seen.extend(data)
            return self._read_again(error), False, b""
        messages = found[0]
        if len(messages) == 1 and messages[0][0].code >= 200 and messages[0][1].is_eof():
            self._body = messages[0][1]
            return found
        messages = self._begin(messages)
        if self._body is None:
            self._seen.extend(data)
        else:
            self._kept = None
        return messages, found[1], found[2]

    def feed_eof(self) -> Any:
        """The connection ended."""
        return self._parser.feed_eof()

    def pause_reading(self) -> None:
        """Whoever reads the body has enough for now; feed_data(b"") goes on."""
        self._parser.pause_reading()

    @property
    def _seen(self) -> bytearray:
        if self._kept is None:
            self._kept = bytearray()
        return self._kept

    def _begin(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Note which of them is the answer; returns it and those before it."""
        for place, (message, body) in enumerate(messages):
            if is_interim(message):
                continue
            self._body = body
            if place + 1 < len(messages):
                self._note(BEHIND)
                self._ended = True
                return messages[: place + 1]
            if not body.is_eof() and not message.chunked and hdrs.TRANSFER_ENCODING in message.headers:
                self._note(CODING)
                if not _says_close(message):
                    # Nothing tells the end: what came with the head is the body.
                    self._end()
        return messages

    def _feed_body(self, data: bytes) -> None:
        if self._ended:
            return
        assert self._body is not None
        try:
            behind = self._parser.feed_data(data)[0]
        except HttpProcessingError:
            if self._body.is_eof():
                self._note(BEHIND)
            elif self.remark is None:
                raise
            else:
                self._note(UNREADABLE)
            self._end()
        else:
            if behind:
                self._note(BEHIND)
                self._end()

    def _read_again(self, refusal: HttpProcessingError) -> Sequence[Message]:
        """Read head by head what was refused, and wait for a head that has not come whole.

        refusal: is raised if it was refused for more than its framing.
        """
        messages: list[Message] = []
        while self._body is None:
            end = _HEAD_END.search(self._seen, self._searched)
            if end is None:
                if self._refusal is None and not self._is_acceptable_but_for_its_framing():
                    raise refusal
                self._refusal, self._searched = refusal, max(len(self._seen) - 2, 0)
                return messages
            head = bytes(self._seen[: end.end()])
            del self._seen[: end.end()]
            self._searched = 0
            messages += self._begin(self._read_head(head))
        rest, self._kept = bytes(self._seen), None
        self._feed_body(rest)
        return messages

    def _is_acceptable_but_for_its_framing(self) -> bool:
        # With a line end, so that a last line of framing that has not come whole is left out, too.
        others = _FRAMING.sub(b"", bytes(self._seen) + b"\n")[:-1]
        try:
            self._fresh().feed_data(others)
        except HttpProcessingError:
            return False
        return True

    def _read_head(self, head: bytes) -> Sequence[Message]:
        self._parser = self._fresh()
        try:
            found: Found = self._parser.feed_data(head)
        except HttpProcessingError:
            tidied = tidy(head)
            if tidied is None:
                raise
            self._note(CODING if tidied[1] else LENGTHS)
            self._parser = self._fresh()
            found = self._parser.feed_data(tidied[0])
        return found[0]

    def _note(self, remark: str) -> None:
        if self.remark is None:
            self.remark = remark
        elif remark not in self.remark:
            self.remark += " " + remark

    def _end(self) -> None:
        """Whatever comes now is dropped."""
        self._ended = True
        if self._body is not None and not self._body.is_eof():
            self._body.feed_eof()


def _says_close(message: RawResponseMessage) -> bool:
    return message.version < HttpVersion11 or "close" in message.headers.get(hdrs.CONNECTION, "").lower()


def tidy(head: bytes) -> tuple[bytes, bool] | None:
    """The head with one line of framing, and whether an unknown coding was left out; None if it
    says no one thing.

    Chunks win over a length, equal lengths are one.
    """
    if _FOLDED.search(head):
        return None
    lengths, codings = set[bytes](), list[bytes]()
    for name, value in _FRAMING.findall(head):
        parts = [part.strip().lower() for part in value.split(b",")]
        if name.lower() == b"content-length":
            lengths.update(parts)
        else:
            codings += parts
    is_chunked = bool(codings) and codings[-1] == b"chunked"
    if is_chunked:
        framing = b"Transfer-Encoding: chunked"
    elif len(lengths) == 1 and _LENGTH.fullmatch(length := lengths.pop()):
        framing = b"Content-Length: " + length
    else:
        return None
    status, _, fields = _FRAMING.sub(b"", head).partition(b"\n")
    return b"%s\n%s\r\n%s" % (status, framing, fields), bool(codings) and not is_chunked
