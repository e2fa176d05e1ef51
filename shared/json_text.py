"""Values as JSON text for PostgreSQL.

Invariants:

- What json.dumps() takes is taken, and means the same (NaN, which is no JSON, becomes null).
  orjson, ten times as fast, refuses lone surrogates and integers beyond 64 bits.
- Those go the slow way, and PostgreSQL decides about them.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

# Strings too, so that digits in them are passed over.
_NUMBERS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)')

# Such a number without an exponent has at most 15 digits, and any double holds these.
_SHORT = 15
_SHOWN_CHARS = 40


def first_changed(text: bytes) -> str | None:
    """The first number in a JSON text that is another one once it was read, None if none is.

    Integers are read with 64 bits, others as doubles. text: valid JSON.
    """
    for match in _NUMBERS.finditer(text):
        number = match[1]
        if number and (len(number) > _SHORT or b"e" in number.lower()) and not _comes_back(number.decode()):
            return number[:_SHOWN_CHARS].decode()
    return None


def _comes_back(number: str) -> bool:
    if number.lstrip("-").isdecimal():
        return len(number) <= len(str(-(2**63))) and -(2**63) <= int(number) < 2**64
    try:
        return Decimal(number) == Decimal(repr(float(number)))
    except InvalidOperation:  # an exponent that nothing holds
        return False


def to_json(value: Any) -> str:
    """The value as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value)
