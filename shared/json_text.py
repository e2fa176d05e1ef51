"""Values as JSON text for PostgreSQL.

Invariants:

- What json.dumps() takes is taken, and means the same (NaN, which is no JSON, becomes null).
  orjson, ten times as fast, refuses lone surrogates and integers beyond 64 bits.
- Those go the slow way, and PostgreSQL decides about them.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def to_json(value: Any) -> str:
    """The value as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value)
