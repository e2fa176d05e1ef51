"""What an HTTP message to a receiver may hold, whoever makes it.

Invariant: nothing that passes here can forge a header that Pointsman sets, smuggle a second request
through CR, LF or NUL, or carry credentials in a URL. Whether the address may be reached is decided
when it is dialled, not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import quote, urlencode

from shared.http_urls import MAX_URL_CHARS, read_url
from shared.masks import CREDENTIAL_HEADERS, MASK, is_mask, shortest_url
from shared.seals import origin_of
from shared.templates.template import is_template

MAX_HEADERS = 50
MAX_HEADER_VALUE_CHARS = 4_096

# What Pointsman itself signs and sets, and what is said to a proxy.
RESERVED_PREFIXES = ("webhook-", "pointsman-", "proxy-")

# The message's own framing and routing, hop-by-hop headers (RFC 9110 §7.6.1), and what asks for a
# compressed response (a bomb).
FORBIDDEN_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "http2-settings",
        "accept-encoding",
    ]
)

# Besides, what the body or the connection decides.
NEVER_FORWARDED = FORBIDDEN_HEADERS | {"content-encoding", "content-language", "content-type", "forwarded"}
MAX_FORWARDED = 50
MAX_PATTERN_CHARS = 100

_MARKUP = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def check_url(url: str) -> str:
    """Return a URL that can be sent to, as it is; raises ValueError saying what is wrong.

    Its length is counted without its masks and its templates: what they stand for is counted when
    it is known. Scheme, host and port are no templates: what is secret beside them goes nowhere
    else.
    """
    if is_template(url):
        if is_template(origin_of(url)) or not origin_of(url):
            raise ValueError("scheme, host and port of a URL cannot be templates")
        read_url(shortest_url(_MARKUP.sub("x", url)))
    else:
        read_url(url if len(url) <= MAX_URL_CHARS else shortest_url(url))
    return url


def check_query(url: str | None, query: Mapping[str, str]) -> None:
    """Raise ValueError for a query that makes a URL too long. url: None where it is not known.

    As in check_url(), masks and templates are counted when it is known what they stand for.
    """
    if not query:
        return
    literal = {name: MASK[:1] if is_mask(value) else _MARKUP.sub("", value) for name, value in query.items()}
    rest = shortest_url(_MARKUP.sub("x", url or ""))
    if len(rest) + len("?") + len(encoded_query(literal)) > MAX_URL_CHARS:
        raise ValueError(f"the URL with its query is longer than {MAX_URL_CHARS} characters")


def encoded_query(query: Mapping[str, str]) -> str:
    """Parameters as they stand in a URL. An asterisk stays, so that a mask can be seen."""
    return urlencode(query, quote_via=quote, safe="*")


def is_reserved(name: str) -> bool:
    """Whether neither an action nor a caller may set a header, however its name is spelled."""
    plain = _spelt(name)
    return plain in FORBIDDEN_HEADERS or plain.startswith(RESERVED_PREFIXES)


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers that may be sent, or raise ValueError naming the one that may not.

    What is a template is checked when it is rendered.
    """
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if is_reserved(name):
            raise ValueError(f"{name} is set by Pointsman and cannot be overridden")
        check_header_value(name, value, _MARKUP.sub("", value))
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header is given twice")
    return headers


def check_header_value(name: str, value: str, literal: str) -> None:
    """Raise ValueError for what a header cannot hold. literal: what of it is no template."""
    if len(value) > MAX_HEADER_VALUE_CHARS or not _HEADER_VALUE.fullmatch(literal):
        raise ValueError(f"the value of {name} is too long or holds other than printable ASCII")


def check_forwarded(patterns: Sequence[str]) -> tuple[str, ...]:
    """The names and patterns of headers to be forwarded, in lower case; raises ValueError."""
    if len(patterns) > MAX_FORWARDED:
        raise ValueError(f"more than {MAX_FORWARDED} names")
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN_CHARS or not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is not the name of a header; a * stands for any characters")
        if _is_kept(pattern):
            raise ValueError(f"{pattern} is never forwarded")
    return tuple(dict.fromkeys(pattern.lower() for pattern in patterns))


def is_forwarded(name: str, patterns: Iterable[str]) -> bool:
    """Whether a caller's header, its name in lower case, is among these.

    Credentials are, if they are named in full.
    """
    if _is_kept(name):
        return False
    if name in CREDENTIAL_HEADERS:
        return name in patterns
    return any(_matches(name, pattern) for pattern in patterns)


def _is_kept(name: str) -> bool:
    return is_reserved(name) or _spelt(name) in NEVER_FORWARDED


def _spelt(name: str) -> str:
    """A header's name as a receiver that speaks CGI may read it: underscores are hyphens to it."""
    return name.lower().replace("_", "-")


@lru_cache(1_024)
def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern)
