"""The body and the URL of an HTTP request, from a config and the trigger that it is about.

Invariants:

- A body of our making says what it is, unless the action says so itself.
- What an action says itself wins over what its caller sends, in headers and in the query.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes, urlencode

from shared.action_types.http_message import encoded_query
from shared.action_types.passed_on import RecordedCall, forwarded, passed_on
from shared.http_urls import with_query
from shared.seals import Cipher
from shared.templates.values import to_json_text


class HttpConfig(Protocol):
    """What is asked of an action's config."""

    @property
    def method(self) -> str: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> Any: ...

    @property
    def form(self) -> Mapping[str, str] | None: ...

    @property
    def forwardHeaders(self) -> Sequence[str]: ...  # noqa: N802 - the JSON field's name

    @property
    def forwardQuery(self) -> bool: ...  # noqa: N802


class Message(NamedTuple):
    """A request before Pointsman's own headers.

    opaque: further headers, of other bytes than ASCII or of several lines, each with its lines.
    """

    method: str
    url: str
    headers: dict[str, str]
    opaque: dict[str, tuple[bytes, ...]]
    body: bytes


# Of these the caller's body is none of theirs.
WITHOUT_BODY = frozenset({"GET", "DELETE"})

# What a request line can hold as it is, as a URL of an action's own can: all printable ASCII but
# the sign of a fragment.
_IN_QUERY = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")


def message_of(config: HttpConfig, url: str, recorded: RecordedCall, decrypt: Cipher) -> Message:
    """The request that a config, rendered, makes of a call. url: before its query is added to."""
    own = {name.lower(): value for name, value in config.headers.items()}
    body, described, opaque = _body(config, recorded, own)
    if config.forwardHeaders:
        plain, others = forwarded(recorded, config.forwardHeaders, {*own, *described}, decrypt)
        described |= plain
        opaque = {**opaque, **others}
    return Message(config.method, _with_query(url, config, recorded), {**described, **own}, opaque, body)


def _body(
    config: HttpConfig, trigger: RecordedCall, own: Container[str]
) -> tuple[bytes, dict[str, str], dict[str, tuple[bytes, ...]]]:
    """The body and the headers that say what it is: of printable ASCII, and of any bytes.

    own: names, in lower case, of headers that the action sets itself.
    """
    if config.form is not None:
        form = urlencode(config.form, quote_via=quote)
        return form.encode(), {"content-type": "application/x-www-form-urlencoded"}, {}
    if isinstance(config.body, str):
        return config.body.encode(), {"content-type": "text/plain; charset=utf-8"}, {}
    if config.body is not None:
        return to_json_text(config.body).encode(), {"content-type": "application/json"}, {}
    if config.method in WITHOUT_BODY:
        return b"", {}, {}
    return trigger.body, *passed_on(trigger, own)


def _with_query(url: str, config: HttpConfig, trigger: RecordedCall) -> str:
    """The URL with what is to be added to its query: the action's, then the caller's."""
    if config.query:
        url = with_query(url, encoded_query(config.query))
    if config.forwardQuery and trigger.query:
        query = quote(trigger.query, safe=_IN_QUERY, encoding="latin-1", errors="replace")
        taken = {_name(part) for part in url.partition("#")[0].partition("?")[2].split("&") if part}
        left = "&".join(part for part in query.split("&") if _name(part) not in taken)
        url = with_query(url, left) if left else url
    return url


def _name(parameter: str) -> bytes:
    """The name of a parameter, however it is encoded."""
    return unquote_to_bytes(parameter.partition("=")[0].replace("+", " "))
