"""Masks what a receiver repeats of what it was sent.

Invariants:

- A secret is found however its characters are spelled: as they are, in another case, or escaped as
  JSON, URLs and HTML escape, up to LAYERS times. Its parts are secrets, too: a word of it, a value
  of a cookie, the password in `Basic`.
- It is masked where it stands, and what overlaps is one mask: no secret uncovers the rest of
  another.
- Masks are set before anything is cut. Where the answer itself was cut off, the beginning of a
  secret at its end is masked.
- What would take too long to be searched is one mask.

What a receiver turns into something else, as a digest or base64, is not found.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from shared.masks import MASK

# A shorter text stands in any answer by chance.
LEAST_BYTES = 4

# An answer that quotes an answer that quotes a URL.
LAYERS = 3

# The bytes of one that is escaped twice as `\\u0061`.
LONGEST_SPELLING = 12

MOST_TEXTS = 1_000
MOST_SPANS = 10_000

_BETWEEN = re.compile(rb"[\s,;:=&\"']+")
_ESCAPED = re.compile(
    rb"%[0-9a-f]{2}"
    rb"|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[\"'\\/]"
    rb"|&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});"
)

Span = tuple[int, int]


class Secrets:
    """What must not be shown. It shows nothing of itself."""

    def __init__(self, values: Iterable[bytes]) -> None:
        parts = {part for value in values for part in _parts(value)}
        spelled = {text for part in parts for text, _ in _layers(part, range(len(part) + 1))}
        self._texts = sorted(text for text in spelled if len(text) >= LEAST_BYTES)
        self._longest = max(map(len, self._texts), default=0)

    def masked(self, text: str) -> str:
        """A text with masks."""
        return self.masked_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def masked_bytes(self, text: bytes, at_most: int | None = None, *, is_cut: bool = False) -> bytes:
        """A text in UTF-8 with masks. at_most: bytes of it that are shown, counted without masks.
        is_cut: it went on.
        """
        end = len(text) if at_most is None else min(len(text), at_most)
        looked_at = text[: end + LONGEST_SPELLING * self._longest]
        if len(self._texts) > MOST_TEXTS:
            return MASK.encode()
        spans = sorted(islice(self._spans(looked_at, is_cut=is_cut), MOST_SPANS + 1))
        return MASK.encode() if len(spans) > MOST_SPANS else b"".join(_with_masks(text, spans, end))

    def _spans(self, text: bytes, *, is_cut: bool) -> Iterator[Span]:
        """Where they stand."""
        for layer, at in _layers(text, range(len(text) + 1)):
            for secret in self._texts:
                start = layer.find(secret)
                while start >= 0:
                    yield at[start], at[start + len(secret)]
                    start = layer.find(secret, start + 1)
                if is_cut and (begun := _begun(layer, secret)):
                    yield at[len(layer) - begun], at[len(layer)]


def _parts(value: bytes) -> Iterator[bytes]:
    """What of a value is secret by itself, in the two ways in which a receiver reads its bytes."""
    found = [value, *_BETWEEN.split(value), *_password(value)]
    for one in found:
        yield one
        if not one.isascii():
            yield one.decode("latin-1").encode()


def _password(value: bytes) -> list[bytes]:
    """What `Basic` says (RFC 7617): the pair, and the password in it."""
    scheme, _, pair = value.partition(b" ")
    if scheme.lower() != b"basic":
        return []
    try:
        opened = base64.b64decode(pair)
    except binascii.Error:
        return []
    return [opened, opened.partition(b":")[2]]


def _layers(text: bytes, at: Sequence[int]) -> Iterator[tuple[bytes, Sequence[int]]]:
    """The text in lower case, then what it stands for, and so on.

    at: where each byte began in the text as it was, and where that ends.
    """
    text = text.lower()
    yield text, at
    for _ in range(LAYERS):
        if _ESCAPED.search(text) is None:
            return
        text, at = _meant(text, at)
        yield text, at


def _meant(text: bytes, at: Sequence[int]) -> tuple[bytes, Sequence[int]]:
    """What a text stands for, without one layer of escapes."""
    meant, begins, position = bytearray(), list[int](), 0
    for found in _ESCAPED.finditer(text):
        start, end = found.span()
        plain = _character(found.group())
        meant += text[position:start] + plain
        begins += at[position:start]
        begins += [at[start]] * len(plain)
        position = end
    meant += text[position:]
    begins += at[position:]
    return bytes(meant).lower(), begins


def _character(escaped: bytes) -> bytes:
    if escaped.startswith(b"%"):
        return bytes.fromhex(escaped[1:].decode())
    if escaped.startswith(b"&"):
        return html.unescape(escaped.decode()).encode("utf-8", "surrogatepass")
    if escaped.startswith(b"\\u"):
        units = bytes.fromhex(escaped.replace(b"\\u", b"").decode())
        return units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
    return bytes.fromhex(escaped[2:].decode()) if escaped.startswith(b"\\x") else escaped[1:]


def _begun(text: bytes, secret: bytes) -> int:
    """How many bytes of a secret stand at the end of a text, if it does not stand there whole."""
    for size in range(min(len(secret) - 1, len(text)), LEAST_BYTES - 1, -1):
        if text.endswith(secret[:size]):
            return size
    return 0


def _with_masks(text: bytes, spans: Iterable[Span], end: int) -> Iterator[bytes]:
    """The text up to its end, with a mask for each span, and one for those that touch."""
    position = 0
    is_masked = False
    for start, stop in spans:
        if start >= end:
            break
        if start > position or not is_masked:
            yield text[position:start] + MASK.encode()
        position, is_masked = max(position, stop), True
    yield text[position:end]
