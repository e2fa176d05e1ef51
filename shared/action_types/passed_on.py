"""What of a call travels on: the headers that say what a body's bytes are, and those that an action
forwards.

Invariants:

- The names of the former are those of RFC 9110 §8.3 to §8.5: type, coding and language.
- A value is passed on as it came, byte for byte. What no header can hold is not: then the bytes are
  just bytes.
- What is forwarded more than once keeps its order and its number. Cookies are one line, as HTTP/1.1
  has them.
- A credential is opened only for an action that names it in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from typing import Protocol

from shared.action_types.http_message import is_forwarded
from shared.errors import Invalid
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
_OPAQUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


Headers = tuple[dict[str, str], dict[str, tuple[bytes, ...]]]
"""Headers of one line of printable ASCII each; others, each with its lines of any bytes."""


def passed_on(trigger: RecordedCall, own: Container[str]) -> Headers:
    """The headers that say what its body is.

    own: names, in lower case, that the action sets itself. None of them is among the latter.
    """
    described = {CONTENT_TYPE: trigger.content_type or JUST_BYTES}
    # Few calls have them, and reading all headers of each would cost more than the rest.
    if _QUOTED_CODING in trigger.headers or _QUOTED_LANGUAGE in trigger.headers:
        described |= _in_headers(trigger.headers)
    elif _is_plain(described[CONTENT_TYPE]):
        return described, {}
    plain: dict[str, str] = {}
    opaque: dict[str, tuple[bytes, ...]] = {}
    for name, value in described.items():
        if _is_plain(value):
            plain[name] = value
        elif name in own:
            continue
        elif (raw := _as_it_came(value)) is not None:
            opaque[name] = (raw,)
        elif name == CONTENT_TYPE:
            plain[name] = JUST_BYTES
    return plain, opaque


def forwarded(
    trigger: RecordedCall, patterns: Sequence[str], taken: Container[str], decrypt: Cipher
) -> Headers:
    """The caller's headers that match.

    taken: names that the request has already. Raises Invalid for a credential that does not
    decrypt. One that was recorded before an action named it is a mask, and stays here.
    """
    found: dict[str, list[str]] = {}
    for name, recorded in json.loads(trigger.headers):
        if name in taken or not is_forwarded(name, patterns):
            continue
        if name not in CREDENTIAL_HEADERS:
            found.setdefault(name, []).append(recorded)
        elif recorded != MASK:
            found.setdefault(name, []).append(_opened(name, recorded, decrypt))
    if "cookie" in found:
        found["cookie"] = ["; ".join(found["cookie"])]
    plain: dict[str, str] = {}
    opaque: dict[str, tuple[bytes, ...]] = {}
    for name, values in found.items():
        if len(values) == 1 and _is_plain(values[0]):
            plain[name] = values[0]
        elif lines := tuple(raw for value in values if (raw := _as_it_came(value)) is not None):
            opaque[name] = lines
    return plain, opaque


def _opened(name: str, recorded: str, decrypt: Cipher) -> str:
    try:
        return opened_text(recorded, decrypt)
    except Invalid as error:
        raise Invalid(
            f"The caller's {name} cannot be decrypted with the keys of this installation.",
            code=error.code,
            hint="Put the key that encrypted it back into POINTSMAN_SECRET_KEYS, then replay the trigger.",
        ) from None


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
