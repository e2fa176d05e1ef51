"""Answers whose framing is untidy: their head counts, and what was odd is noted.

Invariants:

- A status line and a head that came whole decide. Bytes behind an answer do not undo it.
- A head that contradicts itself, or does not say where its body ends, is enough by itself: however
  the body goes on, it is no failure.
- A head that gives two lengths, or none that can be read, is still no head.
- An answer with a remark must be the last on its connection: where the next one begins is unknown.
  Empty lines behind an answer are nothing: the parser passes over them.
- A body that breaks off, or is none, undoes a head that said one clear thing of it.

aiohttp's parser reads everything. It is asked again, with a head that says one thing of the length,
only where it has refused a whole piece. Source: RFC 9112 §6.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import hdrs
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import StreamReader

from worker.egress.doubtful import DoubtfulBody
from worker.egress.heads import (
    HEAD_END,
    INTERIM,
    SWITCHING_PROTOCOLS,
    Tidied,
    says_close,
    speaks_of_body,
    tidy,
    without_framing,
)

Message = tuple[RawResponseMessage, StreamReader]
Found = tuple[Sequence[Message], bool, bytes]

BEHIND = "There were bytes behind its end."
LENGTHS = "It gave its length more than once."
CODING = "It had a Transfer-Encoding other than chunked."
UNREADABLE = "Its body was not what its head said."
UNSAID = "It did not say where its body ends."
BODILESS = "Its head spoke of a body, which a 204 has not."

NO_CONTENT = 204
RESET_CONTENT = 205
_NOTHING: Found = ((), False, b"")

# What the parser says of a trailer that is no header. All chunks have come then.
_BAD_TRAILER = "Invalid header token"


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
    _is_chunked = False
    _has_no_end = False  # nothing but the end of the connection tells it
    _tidied: Tidied | None = None  # of a head that contradicts itself
    _doubtful: DoubtfulBody | None = None  # behind such a head

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
        if len(messages) == 1:
            message, body = messages[0]
            code = message.code
            if code >= 200 and body.is_eof():
                self._body = body
                if code == NO_CONTENT and speaks_of_body(message):
                    self._note(BODILESS)  # which may come only when the next request is on its way
                if self._parser.feed_eof() is not None:
                    self.note_behind()
                return found
        messages = self._begin(messages)
        if self._body is None:
            self._seen.extend(data)
        else:
            self._kept = None
            self._look_behind()
        return messages, found[1], found[2]

    def feed_eof(self) -> Any:
        """The connection ended."""
        if self._ended:
            return None
        if self._body is None or self._body.is_eof():
            return self._parser.feed_eof()
        if self._is_chunked and self._tidied is None:
            if not self._has_last_chunk():
                raise TransferEncodingError("The last chunk never came.")
            self._give_up()
            return None
        try:
            return self._parser.feed_eof()
        except Exception:
            if self.remark is None:
                raise
            self._give_up()
            return None

    def is_enough(self) -> bool:
        """Whoever reads the body gets no more of it: whether the head decides all the same."""
        if self._body is None:
            return False
        if self._has_no_end:
            self._note(UNSAID)
            self.end()
        elif self.remark is not None or self._has_last_chunk():
            self._give_up()
        return self.remark is not None

    def note_unreadable(self) -> None:
        """The body was not what the head said."""
        self._note(UNREADABLE)

    def note_behind(self) -> None:
        """Something came behind the whole answer."""
        self._note(BEHIND)
        self.end()

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
            if message.code in INTERIM:
                continue
            self._body = body
            if message.code == NO_CONTENT and speaks_of_body(message):
                self._note(BODILESS)  # which may come only when the next request is on its way
            if place + 1 < len(messages):
                self.note_behind()
                return messages[: place + 1]
            if not body.is_eof():
                self._begin_body(message)
        return messages

    def _begin_body(self, message: RawResponseMessage) -> None:
        """Note what tells the end of a body that has not come whole."""
        self._is_chunked = message.chunked
        if message.chunked or hdrs.CONTENT_LENGTH in message.headers:
            return
        self._has_no_end = message.code != SWITCHING_PROTOCOLS
        if hdrs.TRANSFER_ENCODING in message.headers:
            self._note(CODING)
            if not says_close(message):
                # Nothing tells the end: what came with the head is the body.
                self.end()
        elif message.code == RESET_CONTENT:  # it has none
            self._note(UNSAID)
            self.end()

    def _feed_body(self, data: bytes) -> None:
        if self._ended:
            return
        if self._doubtful is not None:
            self._doubtful.feed(data)
        else:
            self.parse_body(data)

    def parse_body(self, data: bytes) -> None:
        """Read a piece of the body, and see whether it has ended."""
        assert self._body is not None
        try:
            behind = self._parser.feed_data(data)[0]
        except HttpProcessingError as error:
            if self._body.is_eof():
                self.note_behind()
            elif self.remark is not None or self._is_bad_trailer(error):
                self.note_unreadable()
                self.end()
            else:
                raise
        else:
            if behind:
                self.note_behind()
            else:
                self._look_behind()

    def _give_up(self) -> None:
        """No more of the body comes, and its head is enough."""
        if self._doubtful is not None:
            self._doubtful.give_up()
        else:
            self.note_unreadable()
            self.end()

    def _look_behind(self) -> None:
        """Note the beginning of another answer behind this one: the parser does not tell of it."""
        if (
            self._body is not None
            and self._body.is_eof()
            and not self._ended
            and self._parser.feed_eof() is not None
        ):
            self.note_behind()

    def _has_last_chunk(self) -> bool:
        """Whether a body of chunks lacks nothing but its last line end. Asking ends the parser."""
        if self._body is None or not self._is_chunked or self._ended or self._tidied is not None:
            return False
        try:
            self._parser.feed_data(b"\r\n")
        except HttpProcessingError:
            return False
        return self._body.is_eof()

    def _is_bad_trailer(self, error: HttpProcessingError) -> bool:
        return self._is_chunked and error.message.startswith(_BAD_TRAILER)

    def _read_again(self, refusal: HttpProcessingError) -> Sequence[Message]:
        """Read head by head what was refused, and wait for a head that has not come whole.

        refusal: is raised if it was refused for more than its framing.
        """
        messages: list[Message] = []
        while self._body is None:
            end = HEAD_END.search(self._seen, self._searched)
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
        if self._tidied is not None and not self._body.is_eof():
            self._doubtful = DoubtfulBody(self, self._body, self._tidied)
            self._doubtful.begin(rest)
        else:
            self._feed_body(rest)
        return messages

    def _is_acceptable_but_for_its_framing(self) -> bool:
        # With a line end, so that a last line of framing that has not come whole is left out, too.
        others = without_framing(bytes(self._seen) + b"\n")[:-1]
        try:
            self._fresh().feed_data(others)
        except HttpProcessingError:
            return False
        return True

    def _read_head(self, head: bytes) -> Sequence[Message]:
        self._parser, self._tidied = self._fresh(), None
        try:
            found: Found = self._parser.feed_data(head)
        except HttpProcessingError:
            self._tidied = tidy(head)
            if self._tidied is None:
                raise
            self._note(CODING if self._tidied.has_other_coding else LENGTHS)
            self._parser = self._fresh()
            found = self._parser.feed_data(self._tidied.head)
        return found[0]

    def _note(self, remark: str) -> None:
        if self.remark is None:
            self.remark = remark
        elif remark not in self.remark:
            self.remark += " " + remark

    def end(self) -> None:
        """Whatever comes now is dropped."""
        self._ended = True
        if self._doubtful is not None:
            self._doubtful.stop_waiting()
        if self._body is not None and not self._body.is_eof():
            self._body.feed_eof()
