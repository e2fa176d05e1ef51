"""The HTTP_POST action: what its config may hold.

Invariant: no config that parses here can forge a header that Pointsman sets, smuggle a second
request through CR, LF or NUL, or carry credentials in its URL. Whether the address may be reached
is decided when it is dialled, not here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared import via
from shared.http_urls import MAX_URL_CHARS, read_url
from shared.masks import (
    masked_headers,
    masked_url,
    secret_headers,
    shortest_url,
    unmasked_headers,
    unmasked_url,
)
from shared.seals import Cipher, opened_text, opened_url, sealed_text, sealed_url

MAX_HEADERS = 50
MAX_HEADER_VALUE_CHARS = 4_096
MAX_BODY_CHARS = 256 * 1024

# The message's own framing and routing, hop-by-hop headers (RFC 9110 §7.6.1), what asks for a
# compressed response (a bomb), and what Pointsman itself signs and sets.
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
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "accept-encoding",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "pointsman-trigger-id",
        "pointsman-action-id",
        "pointsman-attempt",
        via.HEADER,
    ]
)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def check_url(url: str) -> str:
    """Return a URL that can be sent to, as it is; raises ValueError saying what is wrong.

    Its length is counted without its masks: what they stand for is counted when it is known.
    """
    read_url(url if len(url) <= MAX_URL_CHARS else shortest_url(url))
    return url


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers that may be sent, or raise ValueError naming the one that may not."""
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in FORBIDDEN_HEADERS:
            raise ValueError(f"{name} is set by Pointsman and cannot be overridden")
        if len(value) > MAX_HEADER_VALUE_CHARS or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} is too long or holds other than printable ASCII")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header is given twice")
    return headers


class HttpPostConfig(BaseModel):
    """`url`, or `{"target": "callback_url"}` for the callback's own URL (its primary action).

    headers: sent as they are. body: sent instead of the trigger's body; a string as it is, anything
    else as JSON. Without it the trigger's body and content type pass through unchanged.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [{"url": "https://example.com/hooks/orders"}],
            "oneOf": [{"required": ["url"]}, {"required": ["target"]}],
        },
    )

    url: str | None = None
    target: Literal["callback_url"] | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | dict[str, Any] | list[Any] | None = None

    _url = field_validator("url")(lambda url: None if url is None else check_url(url))
    _headers = field_validator("headers")(check_headers)

    @field_validator("body")
    @classmethod
    def _bounded(cls, body: Any) -> Any:
        if len(body if isinstance(body, str) else json.dumps(body)) > MAX_BODY_CHARS:
            raise ValueError(f"the body is longer than {MAX_BODY_CHARS} characters")
        return body

    @model_validator(mode="after")
    def _one_target(self) -> HttpPostConfig:
        if (self.url is None) == (self.target is None):
            raise ValueError('give either "url" or {"target": "callback_url"}')
        return self


Config = HttpPostConfig


def redact(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it may be shown: values of headers and of the URL's query are masked."""
    return _with(config, masked_url, masked_headers)


def unmask(config: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The config with what its masks stand for in the kept one; raises Invalid for any other."""
    return _with(
        config,
        lambda url: unmasked_url(url, kept.get("url"), "config.url"),
        lambda headers: unmasked_headers(headers, kept.get("headers") or {}, "config.headers"),
    )


def seal(config: dict[str, Any], encrypt: Cipher) -> dict[str, Any]:
    """The config as a row has it: header values and all beyond the URL's origin sealed."""
    return _with(
        config,
        lambda url: sealed_url(url, encrypt),
        lambda headers: {name: sealed_text(value, encrypt) for name, value in headers.items()},
    )


def unseal(config: dict[str, Any], decrypt: Cipher) -> dict[str, Any]:
    """The config of a row, opened; raises Invalid for what does not decrypt."""
    return _with(
        config,
        lambda url: opened_url(url, decrypt),
        lambda headers: {name: opened_text(value, decrypt) for name, value in headers.items()},
    )


def destination(config: dict[str, Any]) -> str | None:
    """The URL that its secrets go to, None for the callback's own."""
    return config.get("url")


def secret_names(config: dict[str, Any]) -> list[str]:
    """What it holds that may go to its destination alone: headers, by name."""
    return secret_headers(config.get("headers") or {})


def _with(
    config: dict[str, Any],
    url: Callable[[str], str],
    headers: Callable[[dict[str, str]], dict[str, str]],
) -> dict[str, Any]:
    """The config with its URL and its headers made into something else.

    What is no URL and no headers, which only a row changed by hand can hold, stays what it is.
    """
    old_url, old_headers = config.get("url"), config.get("headers")
    if not old_url and not old_headers:
        return config
    changed = dict(config)
    if isinstance(old_url, str):
        changed["url"] = url(old_url)
    if isinstance(old_headers, dict) and all(isinstance(value, str) for value in old_headers.values()):
        changed["headers"] = headers(old_headers)
    return changed


def summarize(config: dict[str, Any]) -> str:
    """One line for people: where it goes, without the query."""
    if config.get("target"):
        return "POST to the callback's URL"
    parts = urlsplit(str(config.get("url")))
    return f"POST {parts.scheme}://{parts.netloc}{parts.path}"


def is_primary(config: dict[str, Any]) -> bool:
    """Whether it delivers to the callback's own URL."""
    return config.get("target") == "callback_url"
