"""What came as bytes: the beginning of it as JSON shows it, and all of it as a file.

Invariants:

- Nothing is read as JSON and written again: numbers, double keys and spaces stay what they were,
  and however deep it is nested, it can be shown.
- What is shown is bounded. What is given as a file is the bytes that came, and the process is
  asked first whether it may hold them.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import LargeBinary, func, select

from api.work import Work

Encoding = Literal["text", "base64"]

MAX_SHOWN_BYTES = 64 * 1024

# Read in one statement, which has a few seconds. The driver gets it as text twice as long.
SLICE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """All the bytes, given as a file."""

    data: bytes


def beginning(column: Any) -> Any:
    """Of a column of bytes, what can be shown: PostgreSQL sends no more."""
    return func.substr(column, 1, MAX_SHOWN_BYTES, type_=LargeBinary)


def whole(work: Work, column: Any, row: Any, size: int) -> Content:
    """All of a column of bytes, slice by slice. row: the condition that names it.

    Raises Unavailable when the process holds too many such bytes.
    """
    work.hold(size)
    starts = range(1, size + 1, SLICE_BYTES)
    slices = [func.substr(column, start, SLICE_BYTES, type_=LargeBinary) for start in starts]
    return Content(b"".join(work.session.scalars(select(one).where(row)).one() for one in slices))


def shown(beginning: bytes, size: int, *, is_coded: bool = False) -> tuple[Encoding, str, bool]:
    """How the first bytes of `size` are encoded, as what, and whether more follow.

    Text as it came, or base64 where it is no UTF-8, holds a NUL, or stands under a Content-Encoding
    (is_coded). A character that the cut went through is left out.
    """
    truncated = size > len(beginning)
    if is_coded:
        return "base64", base64.b64encode(beginning).decode(), truncated
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(beginning, final=not truncated)
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text:
        return "base64", base64.b64encode(beginning).decode(), truncated
    return "text", text, truncated


def is_coded(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether recorded headers name a Content-Encoding other than identity."""
    codings = ",".join(value for name, value in headers if name == "content-encoding").split(",")
    return any(coding.strip().lower() not in ("", "identity") for coding in codings)
