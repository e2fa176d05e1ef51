"""The filters that templates may use, each bounded in the size of its result.

Invariants:

- What a filter would make is measured before it is made, where it can grow.
- No filter reads a clock, a file or another template.

Where Liquid has a filter, it means what Liquid says. `json` and `sha256` are ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

from liquid.builtin.filters import array, misc, string
from liquid.builtin.filters import math as arithmetic
from liquid.exceptions import FilterArgumentError, FilterValueError
from liquid.undefined import Undefined

from shared.templates.values import Number, to_json_text

MAX_CHARS = 1024 * 1024
MAX_ITEMS = 100_000

# A number that is calculated has at most about 150 digits.
MAX_BITS = 512
MAX_FORMAT_CHARS = 100

Filter = Callable[..., Any]


class JsonText(str):
    """A JSON text: where JSON is written it stands as it is, without quotes."""

    __slots__ = ()


def bounded(result: Any) -> Any:
    """What a filter has made, if it is not too large."""
    match result:
        case str() if len(result) > MAX_CHARS:
            raise _too_large()
        case list() | tuple() if len(result) > MAX_ITEMS:
            raise _too_large()
        case bool():
            return result
        case int() if result.bit_length() > MAX_BITS:
            raise FilterValueError("the number has too many digits", token=None)
        case float() if not isinstance(result, Number) and not math.isfinite(result):
            raise FilterValueError("the result is not a number", token=None)
    return result


def _too_large() -> FilterValueError:
    return FilterValueError(
        f"the result is larger than {MAX_CHARS} characters or {MAX_ITEMS} items", token=None
    )


def _measured(make: Filter, grown: Callable[..., int]) -> Filter:
    """A filter whose result is measured before it is made. grown: its length, or more."""

    def measured(value: Any, *arguments: Any, **named: Any) -> Any:
        if grown(value, *arguments) > MAX_CHARS:
            raise _too_large()
        return bounded(make(value, *arguments, **named))

    return _like(make, measured)


def _checked(make: Filter) -> Filter:
    """A filter whose result is no larger than what it is made of."""

    def checked(value: Any, *arguments: Any, **named: Any) -> Any:
        return bounded(make(value, *arguments, **named))

    return _like(make, checked)


def _like(make: Filter, wrapped: Filter) -> Filter:
    for mark in ("with_environment", "with_context"):
        if getattr(make, mark, False):
            setattr(wrapped, mark, True)
    return wrapped


def _chars(value: Any) -> int:
    return len(value if isinstance(value, str) else str(value))


def _replaced(value: Any, sought: Any = "", by: Any = "") -> int:
    text, old, new = str(value), str(sought), str(by)
    times = text.count(old) if old else len(text) + 1
    return len(text) + times * max(len(new) - len(old), 0)


def _joined(items: Any, separator: Any = " ") -> int:
    if not isinstance(items, Iterable) or isinstance(items, str | dict):
        return _chars(items)
    return sum(_chars(item) + _chars(separator) for item in items)


def json_text(value: Any) -> JsonText:
    """The value as JSON: `null` for what is not there."""
    try:
        return JsonText(to_json_text(None if isinstance(value, Undefined) else value))
    except ValueError as error:
        raise FilterValueError(f"json: {error}", token=None) from None


def sha256(value: Any) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    text = "" if value is None else str(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _date(value: Any, form: Any, *, environment: Any) -> Any:
    """The time in a form of strftime. `now` is none: a request is the same at each attempt."""
    if value in ("now", "today"):
        raise FilterArgumentError(
            'date: "now" would differ at each attempt. Use trigger.receivedAt', token=None
        )
    if _chars(value) > MAX_FORMAT_CHARS or _chars(form) > MAX_FORMAT_CHARS:
        raise FilterArgumentError(f"date: a text of more than {MAX_FORMAT_CHARS} characters", token=None)
    try:
        return misc.date(value, form, environment=environment)
    except (OverflowError, OSError, ValueError):
        raise FilterArgumentError("date: no such time", token=None) from None


_date.with_environment = True  # type: ignore[attr-defined]  # as liquid marks its own

_GROWING: dict[str, tuple[Filter, Callable[..., int]]] = {
    "append": (string.append, lambda value, other="": _chars(value) + _chars(other)),
    "prepend": (string.prepend, lambda value, other="": _chars(value) + _chars(other)),
    "replace": (string.replace, _replaced),
    "replace_first": (string.replace_first, lambda value, _old="", new="": _chars(value) + _chars(new)),
    "replace_last": (string.replace_last, lambda value, _old="", new="": _chars(value) + _chars(new)),
    "escape": (string.escape, lambda value: 6 * _chars(value)),
    "escape_once": (string.escape_once, lambda value: 6 * _chars(value)),
    "newline_to_br": (string.newline_to_br, lambda value: 6 * _chars(value)),
    "url_encode": (string.url_encode, lambda value: 3 * _chars(value)),
    "truncate": (string.truncate, lambda value, _n=0, end="...": _chars(value) + _chars(end)),
    "truncatewords": (string.truncatewords, lambda value, _n=0, end="...": _chars(value) + _chars(end)),
    "join": (array.join, _joined),
}
_OTHERS: dict[str, Filter] = {
    "base64_decode": string.base64_decode,
    "base64_encode": string.base64_encode,
    "base64_url_safe_decode": string.base64_url_safe_decode,
    "base64_url_safe_encode": string.base64_url_safe_encode,
    "capitalize": string.capitalize,
    "downcase": string.downcase,
    "lstrip": string.lstrip,
    "remove": string.remove,
    "remove_first": string.remove_first,
    "remove_last": string.remove_last,
    "rstrip": string.rstrip,
    "slice": string.slice_,
    "split": string.split,
    "strip": string.strip,
    "strip_newlines": string.strip_newlines,
    "upcase": string.upcase,
    "url_decode": string.url_decode,
    "compact": array.compact,
    "concat": array.concat,
    "find": array.find,
    "find_index": array.find_index,
    "first": array.first,
    "has": array.has,
    "last": array.last,
    "map": array.map_,
    "reject": array.reject,
    "reverse": array.reverse,
    "sort": array.sort,
    "sort_natural": array.sort_natural,
    "sum": array.sum_,
    "uniq": array.uniq,
    "where": array.where,
    "abs": arithmetic.abs_,
    "at_least": arithmetic.at_least,
    "at_most": arithmetic.at_most,
    "ceil": arithmetic.ceil,
    "divided_by": arithmetic.divided_by,
    "floor": arithmetic.floor,
    "minus": arithmetic.minus,
    "modulo": arithmetic.modulo,
    "plus": arithmetic.plus,
    "round": arithmetic.round_,
    "times": arithmetic.times,
    "date": _date,
    "default": misc.default,
    "size": misc.size,
    "json": json_text,
    "sha256": sha256,
}

FILTERS: dict[str, Filter] = {
    **{name: _measured(make, grown) for name, (make, grown) in _GROWING.items()},
    **{name: _checked(make) for name, make in _OTHERS.items()},
}
