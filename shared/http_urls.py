"""Which URLs can be sent to, and what of them goes on the wire.

Invariants:

- A URL that is refused when it is sent is refused when it is saved, and the other way round: both
  ask here.
- The target is what the user wrote, byte for byte, without the fragment.
- The host that is looked up, dialled and named in Host is one: origin's, in ASCII. A dot at its end
  is looked up, and is left out of Host and of the name in TLS.
- No message repeats a part of a URL, which may be a credential.

Source: RFC 9112 §3.2.1 for the target, RFC 3986 §3.2 for the authority.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from yarl import URL

MAX_URL_CHARS = 2_000

_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0]")
_AUTHORITY_END = re.compile(r"[/?]")
_AUTHORITY = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::[0-9]*)?")

# After IDNA; no scope ids, no percent-encoding.
_HOST = re.compile(r"[0-9A-Za-z._:-]+")


class HttpUrl(NamedTuple):
    """Where a request goes. origin: scheme, host, port. target: of the request line, in ASCII."""

    origin: URL
    target: str


def with_query(url: str, added: str) -> str:
    """The URL with something behind its query. added: as it is to be sent."""
    rest, mark, fragment = url.partition("#")
    joint = "" if rest.endswith(("?", "&")) else "&" if "?" in rest else "?"
    return rest + joint + added + mark + fragment


def read_url(text: str) -> HttpUrl:
    """Read an http(s) URL that can be sent to; raises ValueError saying what is wrong with it."""
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"the URL is longer than {MAX_URL_CHARS} characters")
    if _SPACE_OR_CONTROL.search(text):
        raise ValueError("the URL holds a space or a control character")
    scheme, _, rest = text.partition("#")[0].partition("://")
    authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    if scheme.lower() not in ("http", "https") or not authority:
        raise ValueError("a URL starts with http:// or https:// and names a host")
    if "@" in authority:
        raise ValueError("a URL must not hold a user name or password; use an Authorization header")
    target = rest[len(authority) :]
    if not target.isascii():
        raise ValueError("path and query of a URL are ASCII; write other characters percent-encoded")
    return HttpUrl(_origin(scheme, authority), target if target.startswith("/") else "/" + target)


def _origin(scheme: str, authority: str) -> URL:
    try:
        authority.encode()  # yarl drops lone surrogates
        origin = URL(f"{scheme}://{authority}/")
        _check_host(origin.raw_host or "", is_bracketed=authority.startswith("["))
    except ValueError:
        raise ValueError("this is not a URL") from None
    if not _AUTHORITY.fullmatch(authority) or not _HOST.fullmatch(origin.raw_host or ""):
        raise ValueError("the host or the port of the URL holds what none can hold")
    return origin


def _check_host(host: str, *, is_bracketed: bool) -> None:
    """Raise ValueError for an address in another form than the usual, or a name with a label that
    none can look up.
    """
    if is_bracketed:
        IPv6Address(host)
    elif host.replace(".", "").isdigit():
        IPv4Address(host)
    else:
        host.encode("idna")
