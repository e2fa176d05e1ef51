"""Bytes as JSON shows them: as JSON if they are JSON, else as text, else in base64."""

from __future__ import annotations

import base64
from typing import Any, Literal

import orjson

Encoding = Literal["json", "text", "base64"]


def shown(content: bytes) -> tuple[Encoding, Any]:
    """How the value is encoded, and the value."""
    try:
        return "json", orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        return "text", content.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(content).decode()
