"""JSON as templates see it: each number keeps the text that it came with. Values as text.

Invariants:

- What was read is written as it came: `10.00` and `25000000000000000000`, not 10.0 and 2.5e19.
- NaN and Infinity are no JSON. What is nested too deeply to be read is none either.
- No text is ever Python's: a list is written as JSON, and true as `true`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Never

import orjson
from liquid.undefined import Undefined

# An integer of fewer digits fits into 64 bits.
MAX_WHOLE_DIGITS = 18

# Below it an integer, its sign included, has no more digits.
PLAIN_INTEGERS = 10 ** (MAX_WHOLE_DIGITS - 1)
_MINUS_ZERO = re.compile(rb"(?:^|[\s:,\[])-0")

# A longer text is read once, not first to see what is in it.
MAX_PLAIN_BYTES = 2_048

# One of up to so many digits can be calculated with exactly.
MAX_DIGITS = 300


class Number(float):
    """A JSON number with its text. It calculates as a double does."""

    text: str

    def __new__(cls, text: str) -> Number:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.text,)


class LongInteger(int):
    """An integer that 64 bits may not hold."""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError for what is none."""
    try:
        return _decoder.decode(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_plain_json(text: bytes) -> Any:
    """The same value, sooner; raises ValueError for what read_json() has to be asked for.

    That is what is no JSON, what is long, and what has another number than integers of few digits.
    """
    if len(text) > MAX_PLAIN_BYTES:
        raise ValueError("it is long")
    if b"-0" in text and _MINUS_ZERO.search(text):
        raise ValueError("a number in it has a text of its own")
    found = orjson.loads(text)
    try:
        if not _is_plain((found,)):
            raise ValueError("a number in it has a text of its own")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether all numbers among these, or within, are integers of few digits."""
    for one in values:
        kind = type(one)
        if kind is int:
            if not -PLAIN_INTEGERS < one < PLAIN_INTEGERS:
                return False
        elif kind is float:
            return False
        elif kind is dict:
            if not _is_plain(one.values()):
                return False
        elif kind is list and not _is_plain(one):
            return False
    return True


def to_json_text(value: Any) -> str:
    """A value as JSON text; raises ValueError for what has none."""
    try:
        try:
            return _dumped(value)
        except TypeError:  # a long integer that was calculated is among what orjson refuses
            return _dumped(_long_ones_marked(value))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def to_text(value: Any) -> str:
    """A value as text: objects and lists as JSON, nothing for what is null or not there.

    Raises ValueError for what has no text.
    """
    match value:
        case str():
            return value
        case None | Undefined():
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list() | tuple():
            return to_json_text(value)
    return str(value)


def _dumped(value: Any) -> str:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


def _long_ones_marked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _long_ones_marked(one) for key, one in value.items()}
        case list() | tuple():
            return [_long_ones_marked(one) for one in value]
    return LongInteger(value) if type(value) is int else value


def _plain(value: Any) -> Any:
    match value:
        case Number():
            return orjson.Fragment(value.text)
        case int() if not isinstance(value, bool):
            return orjson.Fragment(str(int(value)))
        case str():
            return str.__str__(value)
        case tuple():
            return list(value)
        case _ if hasattr(value, "__liquid__"):
            return value.__liquid__()
    raise TypeError(f"{type(value).__name__} has no JSON text")


def _integer(text: str) -> int | Number:
    if len(text) <= MAX_WHOLE_DIGITS and text != "-0":
        return int(text)
    return LongInteger(text) if len(text) <= MAX_DIGITS and text != "-0" else Number(text)


def _no_json(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_float=Number, parse_int=_integer, parse_constant=_no_json)
