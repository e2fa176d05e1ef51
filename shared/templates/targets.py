"""Where a rendered value stands, and what it must look like there.

Invariants:

- A value cannot leave its place: in a URL it is one piece of a path or of a query, in a JSON text
  one string or one value, in HTML text.
- A header's value is checked when it is whole, by who sends it.
- An object and a list are written as JSON, wherever they stand.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson
from liquid.undefined import Undefined

from shared.templates.filters import JsonText
from shared.templates.values import to_json_text


class Target(StrEnum):
    """What a template becomes."""

    TEXT = "text"
    HEADER = "header"
    HTML = "html"
    JSON = "json"
    URL = "url"


def _json_string(text: str) -> str:
    """The characters of a JSON string, without its quotes; raises ValueError for surrogates."""
    try:
        return orjson.dumps(text).decode()[1:-1]
    except TypeError as error:
        raise ValueError(str(error)) from None


def _in_url(text: str) -> str:
    if text and not text.strip("."):
        raise ValueError("a value of nothing but dots leads elsewhere in a URL")
    return quote(text, safe="")


def _as_it_is(text: str) -> str:
    return text


_ESCAPES: dict[Target, Callable[[str], str]] = {
    Target.TEXT: _as_it_is,
    Target.HEADER: _as_it_is,
    Target.HTML: html.escape,
    Target.JSON: _json_string,
    Target.URL: _in_url,
}


def written(value: Any, target: Target) -> str:
    """A value as it stands in its target; raises ValueError if it cannot stand there."""
    if isinstance(value, JsonText):
        return value if target is Target.JSON else _ESCAPES[target](value)
    if isinstance(value, str):
        return _ESCAPES[target](value)
    match value:
        case None | Undefined():
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list() | tuple():
            text = to_json_text(value)
            return text if target is Target.JSON else _ESCAPES[target](text)
    return _ESCAPES[target](str(value))
