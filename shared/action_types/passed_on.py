"""What of a call travels on: the headers that say what a body's bytes are, and those that an action
forwards.

Invariants:

- The names of the former are those of RFC 9110 §8.3 to §8.5: type, coding and language.
- A value is passed on as it came, byte for byte. What no header can hold is not: then the bytes are
  just bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from typing import Protocol

from shared.action_types.http_message import is_forwarded
from shared.masks import CREDENTIAL_HEADERS, MASK
from shared.seals import Cipher, opened_text


class RecordedCall(Protocol):
    """A recorded call. headers: JSON text, a list of [name, value]."""

    @property
    def query(self) -> str: ...

    @property
    def headers(self) -> str: ...

    @property
    def content_type(self) -> str | None: ...

    @property
    def body(self) -> bytes: ...


JUST_BYTES = "application/octet-stream"
CONTENT_TYPE = "content-type"

# Besides the type, which has a column of its own.
_IN_HEADERS = ("content-encoding", "content-language")
_QUOTED_CODING, _QUOTED_LANGUAGE = (f'"{name}"' for name in _IN_HEADERS)
# How several of one name become one (RFC 9110 §5.3, RFC 9113 §8.2.3).
_SEPARATORS = {"cookie": "; "}
_OPAQUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]+")


def passed_on(trigger: RecordedCall, own: Container[str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """The headers of printable ASCII, and those of any bytes.

    own: names, in lower case, that the action sets itself. None of them is among the latter.
    """
    described = {CONTENT_TYPE: trigger.content_type or JUST_BYTES}
    # Few calls have them, and reading all headers of each would cost more than the rest.
    if _QUOTED_CODING in trigger.headers or _QUOTED_LANGUAGE in trigger.headers:
        described |= _in_headers(trigger.headers)
    elif _is_plain(described[CONTENT_TYPE]):
        return described, {}
    plain: dict[str, str] = {}
    opaque: dict[str, bytes] = {}
    for name, value in described.items():
        if _is_plain(value):
            plain[name] = value
        elif name in own:
            continue
        elif (raw := _as_it_came(value)) is not None:
            opaque[name] = raw
        elif name == CONTENT_TYPE:
            plain[name] = JUST_BYTES
    return plain, opaque


def forwarded(
    trigger: RecordedCall, patterns: Sequence[str], taken: Container[str], decrypt: Cipher
) -> tuple[dict[str, str], dict[str, bytes]]:
    """The caller's headers that match, of printable ASCII and of any bytes.

    taken: names that the request has already. Raises Invalid for a credential that does not
    decrypt. One that was recorded before an action named it is a mask, and stays here.
    """
    values: dict[str, str] = {}
    for name, recorded in json.loads(trigger.headers):
        if name in taken or recorded == MASK or not is_forwarded(name, patterns):
            continue
        value = opened_text(recorded, decrypt) if name in CREDENTIAL_HEADERS else recorded
        values[name] = f"{values[name]}{_SEPARATORS.get(name, ', ')}{value}" if name in values else value
    plain: dict[str, str] = {}
    opaque: dict[str, bytes] = {}
    for name, value in values.items():
        if _is_plain(value):
            plain[name] = value
        elif (raw := _as_it_came(value)) is not None:
            opaque[name] = raw
    return plain, opaque


def coding_and_language(trigger: RecordedCall) -> tuple[str | None, str | None]:
    """Its recorded Content-Encoding and Content-Language."""
    if _QUOTED_CODING not in trigger.headers and _QUOTED_LANGUAGE not in trigger.headers:
        return None, None
    found = _in_headers(trigger.headers)
    coding, language = (found.get(name) for name in _IN_HEADERS)
    return coding, language


def _in_headers(headers: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in json.loads(headers):
        if name in _IN_HEADERS and value:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _as_it_came(value: str) -> bytes | None:
    """The bytes of a recorded header, None if no header can hold them."""
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        return None
    return raw if _OPAQUE.fullmatch(raw) else None
