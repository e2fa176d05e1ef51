"""The filters that templates may use, each bounded in the size of its result.

Invariants:

- What a filter would make is measured before it is made, where it can become many times as large.
- No filter reads a clock, a file or another template.
- Whatever a filter stumbles over is said as its error, with its place.
- A text that a filter makes of a value is what the value would be in a text.

Where Liquid has a filter, it means what Liquid says. `json` and `sha256` are ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dateutil import parser
from liquid.builtin.filters import array, misc, string
from liquid.builtin.filters import math as arithmetic
from liquid.exceptions import FilterArgumentError, LiquidError
from liquid.filter import sequence_filter
from liquid.undefined import Undefined

from shared.templates.values import Number, to_json_text, to_text

MAX_CHARS = 1024 * 1024
MAX_ITEMS = 100_000

# A number that is calculated has at most about 150 digits.
MAX_BITS = 512
MAX_FORMAT_CHARS = 100

# A time that has another year by each of these names none itself. Both begin with a leap year.
_SOME_DAY, _OTHER_DAY = datetime(2000, 1, 1), datetime(2004, 1, 1)  # noqa: DTZ001 - of no zone

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
            raise FilterArgumentError("the number has too many digits", token=None)
        case float() if not isinstance(result, Number) and not math.isfinite(result):
            raise FilterArgumentError("the result is not a number", token=None)
    return result


def _too_large() -> FilterArgumentError:
    """Of this class, since python-liquid gives a place to no other."""
    return FilterArgumentError(
        f"the result is larger than {MAX_CHARS} characters or {MAX_ITEMS} items", token=None
    )


def _guarded(name: str, make: Filter) -> Filter:
    """A filter whose result is bounded, and whose every fault is an error of the template."""

    def guarded(value: Any, *arguments: Any, **named: Any) -> Any:
        said: object = "it cannot be made of this"
        try:
            return bounded(make(value, *arguments, **named))
        except FilterArgumentError:
            raise
        except LiquidError as error:
            said = error.message
        except (ArithmeticError, AttributeError, LookupError, UnicodeError):
            pass
        except (TypeError, ValueError) as error:
            said = error
        raise FilterArgumentError(f"{name}: {said}", token=None) from None

    for mark in ("with_environment", "with_context"):
        if getattr(make, mark, False):
            setattr(guarded, mark, True)
    return guarded


def _of_texts(make: Filter, grown: Callable[..., int] | None = None) -> Filter:
    """A filter of a text and of texts or numbers. grown: the length of its result, or more."""

    def made(value: Any, *arguments: Any, **named: Any) -> Any:
        text = to_text(value)
        others = [one if _is_number(one) else to_text(one) for one in arguments]
        if grown is not None and grown(text, *map(str, others)) > MAX_CHARS:
            raise _too_large()
        return make(text, *others, **named)

    if getattr(make, "with_environment", False):
        made.with_environment = True  # type: ignore[attr-defined]  # as liquid marks its own
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _replaced(text: str, old: str = "", new: str = "") -> int:
    times = text.count(old) if old else len(text) + 1
    return len(text) + times * max(len(new) - len(old), 0)


def _with_end(text: str, _count: str = "", end: str = "...") -> int:
    return len(text) + len(end)


def _split(text: str, separator: str = "") -> list[str]:
    if (text.count(separator) if separator else len(text)) > MAX_ITEMS:
        raise _too_large()
    parts: list[str] = string.split(text, separator)
    return parts


def _sliced(value: Any, start: Any, length: Any = 1) -> Any:
    return string.slice_(value if isinstance(value, list | tuple) else to_text(value), start, length)


@sequence_filter
def _joined(items: list[Any], separator: Any = " ") -> str:
    between, texts, chars = to_text(separator), [], 0
    for item in items:
        texts.append(to_text(item))
        chars += len(texts[-1]) + len(between)
        if chars > MAX_CHARS:
            raise _too_large()
    return between.join(texts)


def _mapped(items: Any, key: Any) -> Any:
    """As Liquid's, with null in the place of the null that is the library's own."""
    found = array.map_(items, key)
    return found and [None if one == None else one for one in found]  # noqa: E711


@sequence_filter
def _compacted(items: list[Any], key: Any = None) -> list[Any]:
    """As Liquid's. An item that does not have the key at all is left out like one that has null."""
    if key is None:
        return [one for one in items if one is not None]
    if not all(isinstance(one, dict) for one in items):
        raise FilterArgumentError("compact: an item is no object", token=None)
    return [one for one in items if one.get(key) is not None]


def json_text(value: Any) -> JsonText:
    """The value as JSON: `null` for what is not there."""
    return JsonText(to_json_text(None if isinstance(value, Undefined) else value))


def sha256(value: Any) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(to_text(value).encode("utf-8", "surrogatepass")).hexdigest()


def date(value: Any, form: Any) -> str:
    """The time in a form of strftime; a text that is no time stays as it is.

    `now` is none, nor is a time without a year: a request is the same at each attempt.
    """
    text, form = to_text(value), to_text(form)
    if text in ("now", "today"):
        raise FilterArgumentError(
            f'date: "{text}" would differ at each attempt. Use trigger.receivedAt', token=None
        )
    if len(text) > MAX_FORMAT_CHARS or len(form) > MAX_FORMAT_CHARS:
        raise FilterArgumentError(f"date: a text of more than {MAX_FORMAT_CHARS} characters", token=None)
    try:
        moment = _moment(value, text) if form else None
        return text if moment is None else moment.strftime(form)
    except (OverflowError, OSError, ValueError):
        raise FilterArgumentError("date: no such time", token=None) from None


def _moment(value: Any, text: str) -> datetime | None:
    """The time of a text, or of seconds since 1970, None if it is none; raises ValueError too."""
    if _is_number(value) or text.isdecimal():
        return datetime.fromtimestamp(int(float(value)) if isinstance(value, float) else int(text), UTC)
    try:
        one, other = (parser.parse(text, default=day) for day in (_SOME_DAY, _OTHER_DAY))
    except parser.ParserError:
        return None
    if one != other:
        raise FilterArgumentError("date: a time without a year would differ at each attempt", token=None)
    found: datetime = one
    return found


_TEXTS: dict[str, tuple[Filter, Callable[..., int] | None]] = {
    "append": (string.append, lambda text, other="": len(text) + len(other)),
    "prepend": (string.prepend, lambda text, other="": len(text) + len(other)),
    "replace": (string.replace, _replaced),
    "replace_first": (string.replace_first, lambda text, _old="", new="": len(text) + len(new)),
    "replace_last": (string.replace_last, lambda text, _old="", new="": len(text) + len(new)),
    "escape": (string.escape, lambda text: 6 * len(text)),
    "escape_once": (string.escape_once, lambda text: 6 * len(text)),
    "newline_to_br": (string.newline_to_br, lambda text: len(text) + 6 * text.count("\n")),
    "url_encode": (string.url_encode, lambda text: 3 * len(text.encode("utf-8", "surrogatepass"))),
    "truncate": (string.truncate, _with_end),
    "truncatewords": (string.truncatewords, _with_end),
    "base64_decode": (string.base64_decode, None),
    "base64_encode": (string.base64_encode, None),
    "base64_url_safe_decode": (string.base64_url_safe_decode, None),
    "base64_url_safe_encode": (string.base64_url_safe_encode, None),
    "capitalize": (string.capitalize, None),
    "downcase": (string.downcase, None),
    "lstrip": (string.lstrip, None),
    "remove": (string.remove, None),
    "remove_first": (string.remove_first, None),
    "remove_last": (string.remove_last, None),
    "rstrip": (string.rstrip, None),
    "split": (_split, None),
    "strip": (string.strip, None),
    "strip_newlines": (string.strip_newlines, None),
    "upcase": (string.upcase, None),
    "url_decode": (string.url_decode, None),
}
_OTHERS: dict[str, Filter] = {
    "slice": _sliced,
    "join": _joined,
    "compact": _compacted,
    "concat": array.concat,
    "find": array.find,
    "find_index": array.find_index,
    "first": array.first,
    "has": array.has,
    "last": array.last,
    "map": _mapped,
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
    "date": date,
    "default": misc.default,
    "size": misc.size,
    "json": json_text,
    "sha256": sha256,
}

FILTERS: dict[str, Filter] = {
    **{name: _guarded(name, _of_texts(make, grown)) for name, (make, grown) in _TEXTS.items()},
    **{name: _guarded(name, make) for name, make in _OTHERS.items()},
}
