"""What the head of an answer says of the body behind it.

Invariant: a head that is tidied says one thing of the length, and nothing else of it is changed.
Source: RFC 9112 §6.3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiohttp import hdrs
from aiohttp.http import HttpVersion11, RawResponseMessage

SWITCHING_PROTOCOLS = 101

# In either form of line end, as the parser takes them.
HEAD_END = re.compile(rb"\n\r?\n")
_FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding)[ \t]*:([^\r\n]*)\r?\n")
_FOLDED = re.compile(rb"\n[ \t]")
_LENGTH = re.compile(rb"[0-9]{1,18}")


# Another head follows, which is the answer.
INTERIM = frozenset(range(100, 200)) - {SWITCHING_PROTOCOLS}


def says_close(message: RawResponseMessage) -> bool:
    """Whether the end of the connection may be the end of the body."""
    return message.version < HttpVersion11 or "close" in message.headers.get(hdrs.CONNECTION, "").lower()


def speaks_of_body(message: RawResponseMessage) -> bool:
    """Whether it says that chunks come, or a length other than 0."""
    length = message.headers.get(hdrs.CONTENT_LENGTH)
    return message.chunked or (length is not None and length.strip("0") != "")


def without_framing(head: bytes) -> bytes:
    """The head, or a part of it, without what it says of the body's length."""
    return _FRAMING.sub(b"", head)


class Tidied(NamedTuple):
    """A head with one line of framing.

    length: what its lengths said, if they were one; is_chunked: its body comes in chunks all the
    same. has_other_coding: an unknown coding was left out.
    """

    head: bytes
    length: int | None
    is_chunked: bool
    has_other_coding: bool


def tidy(head: bytes) -> Tidied | None:
    """The head with one line of framing, None if it says no one thing.

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
    length = int(one) if len(lengths) == 1 and _LENGTH.fullmatch(one := lengths.pop()) else None
    if is_chunked:
        framing = b"Transfer-Encoding: chunked"
    elif length is not None:
        framing = b"Content-Length: %d" % length
    else:
        return None
    status, _, fields = without_framing(head).partition(b"\n")
    tidied = b"%s\n%s\r\n%s" % (status, framing, fields)
    return Tidied(tidied, length, is_chunked, has_other_coding=bool(codings) and not is_chunked)
