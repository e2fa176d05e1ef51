"""How secrets stand in rows: sealed texts, and URLs that are sealed beyond their origin.

Invariants:

- Of a URL only scheme, host and port can be read in a row.
- A sealed text cannot be taken for a URL or a part of one: a space stands before it.
- What is not sealed is taken as it is: rows of an earlier version, and those written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.crypto import is_sealed

Cipher = Callable[[str], str]
"""Encrypts or decrypts; decrypting raises Invalid for what no key opens."""

_ORIGIN = re.compile(r"[^:/?#\s]+://[^/?#\s]*")
_NO_SECRET = ("", "/")


def sealed_text(plain: str, encrypt: Cipher) -> str:
    """A text as it stands in a row; an empty one says nothing."""
    return encrypt(plain) if plain else plain


def opened_text(text: str, decrypt: Cipher) -> str:
    """The text of a row; raises Invalid."""
    return decrypt(text) if is_sealed(text) else text


def sealed_url(url: str, encrypt: Cipher) -> str:
    """A URL as it stands in a row: its origin, a space, and the rest sealed."""
    origin = origin_of(url)
    rest = url[len(origin) :]
    return url if rest in _NO_SECRET else f"{origin} {encrypt(rest)}"


def opened_url(text: str, decrypt: Cipher) -> str:
    """The URL of a row; raises Invalid.

    What decrypts to something that cannot follow an origin becomes its path.
    """
    origin, space, sealed = text.partition(" ")
    if not space:
        return text
    rest = decrypt(sealed)
    return origin + (rest if rest[:1] in ("/", "?", "#") else f"/{rest}")


def origin_of(text: str) -> str:
    """Scheme, host and port of a URL, sealed or not, as they are written."""
    found = _ORIGIN.match(text)
    return found.group() if found else ""


def moved_url(text: str, old_origin: str, new_origin: str) -> str:
    """The URL of a row, sealed or not, with another origin if it has the old one."""
    return new_origin + text[len(old_origin) :] if origin_of(text) == old_origin else text
