"""Where a rendered value stands, and what it must look like there.

Invariants:

- A value cannot leave its place: in a URL it is one piece of a path or of a query, in a JSON text
  one string or one value, in HTML text.
- A header's value is checked when it is whole, by who sends it.
- An object and a list are written as JSON, wherever they stand.
- A path is never shortened: no value in it is nothing but dots. In a query and in a form dots are
  dots.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson

from shared.templates.filters import JsonText
from shared.templates.values import to_text


class Target(StrEnum):
    """What a template becomes."""

    TEXT = "text"
    HEADER = "header"
    HTML = "html"
    JSON = "json"
    URL = "url"
    FORM = "form"


def _json_string(text: str) -> str:
    """The characters of a JSON string, without its quotes; raises ValueError for surrogates."""
    try:
        return orjson.dumps(text).decode()[1:-1]
    except TypeError as error:
        raise ValueError(str(error)) from None


def _in_form(text: str) -> str:
    return quote(text, safe="")


def _in_url(text: str) -> str:
    if text and not text.strip("."):
        raise ValueError("a value of nothing but dots leads elsewhere in the path of a URL")
    return _in_form(text)


def _as_it_is(text: str) -> str:
    return text


_ESCAPES: dict[Target, Callable[[str], str]] = {
    Target.TEXT: _as_it_is,
    Target.HEADER: _as_it_is,
    Target.HTML: html.escape,
    Target.JSON: _json_string,
    Target.URL: _in_url,
    Target.FORM: _in_form,
}


def written(value: Any, target: Target) -> str:
    """A value as it stands in its target; raises ValueError if it cannot stand there."""
    text = to_text(value)
    if target is Target.JSON and isinstance(value, JsonText | dict | list | tuple):
        return text
    return _ESCAPES[target](text)
