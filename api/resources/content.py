"""Bytes as JSON shows them: as JSON if they are JSON, else as text, else in base64.

Invariant: bytes under a Content-Encoding are neither, whatever they look like.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Literal

import orjson

Encoding = Literal["json", "text", "base64"]

# What reads JSON goes deeper than what writes it: deeper than this it is shown as text.
MAX_DEPTH = 100


def shown(content: bytes, *, is_coded: bool = False) -> tuple[Encoding, Any]:
    """How the value is encoded, and the value. is_coded: it stands under a Content-Encoding."""
    if is_coded:
        return _base64(content)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    else:
        if not _is_deep(content, value):
            return "json", value
    try:
        return "text", content.decode()
    except UnicodeDecodeError:
        return _base64(content)


def is_coded(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether recorded headers name a Content-Encoding other than identity."""
    codings = ",".join(value for name, value in headers if name == "content-encoding").split(",")
    return any(coding.strip().lower() not in ("", "identity") for coding in codings)


def _base64(content: bytes) -> tuple[Encoding, str]:
    return "base64", base64.b64encode(content).decode()


def _is_deep(content: bytes, value: Any) -> bool:
    """Whether lists and objects stand more than MAX_DEPTH deep in one another."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return any(isinstance(one, list | dict) for one in level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
