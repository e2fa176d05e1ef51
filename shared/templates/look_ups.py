"""Look-ups as plain steps: names, comparisons, `default` and `json`, made once of what is parsed.

Invariant: whatever is not as plain as that when it is looked up is for the library, so that it
means the same.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

from liquid.builtin.expressions import (
    BooleanExpression,
    Filter,
    FilteredExpression,
    Path,
    PositionalArgument,
)
from liquid.builtin.expressions.logical import (
    EqExpression,
    GeExpression,
    GtExpression,
    LeExpression,
    LogicalAndExpression,
    LogicalNotExpression,
    LogicalOrExpression,
    LtExpression,
    NeExpression,
    is_truthy,
)
from liquid.builtin.expressions.primitive import (
    FalseLiteral,
    FloatLiteral,
    IntegerLiteral,
    Nil,
    StringLiteral,
    TrueLiteral,
)
from liquid.context import RenderContext
from liquid.expression import Expression

from shared.templates.filters import JsonText, json_text
from shared.templates.language import language
from shared.templates.targets import Target, written
from shared.templates.values import LongInteger, Number

Values = Mapping[str, Any]
"""What names stand for."""

Read = Callable[[Values], Any]
Write = Callable[[Values], str]
Holds = Callable[[Values], bool]

LOOK_UP_FILTERS = {"default", "json"}

# What is compared and written here, by its exact type. Everything else is for the library.
_NUMBERS = frozenset({int, float, Number, LongInteger})
_EQUALS = _NUMBERS | {str, NoneType}
_TRUTHS = _EQUALS | {bool, dict, list}
_KNOW_THEIR_TEXT = frozenset({int, Number, LongInteger})
_AS_THEY_ARE = frozenset({Target.TEXT, Target.HEADER})

# A longer text, and an integer that is longer than most, is for the library, which has limits.
_MAX_PLAIN_CHARS = 1_000
_FILLED = frozenset({int, float, Number})

_NOT_PLAIN: Any = object()
_NOTHING = language(Target.TEXT).from_string("")

_COMPARED: dict[type[Expression], tuple[Callable[[Any, Any], Any], frozenset[Any]]] = {
    EqExpression: (operator.eq, _EQUALS),
    NeExpression: (operator.ne, _EQUALS),
    LtExpression: (operator.lt, _NUMBERS),
    LeExpression: (operator.le, _NUMBERS),
    GtExpression: (operator.gt, _NUMBERS),
    GeExpression: (operator.ge, _NUMBERS),
}
_LITERALS = (StringLiteral, IntegerLiteral, FloatLiteral, TrueLiteral, FalseLiteral)
_PLAIN = (Path, Nil, *_LITERALS)


def context_of(scope: Values) -> RenderContext:
    """What the library evaluates something in."""
    return RenderContext(_NOTHING, globals=scope)


def is_look_up(expression: Expression) -> bool:
    """Whether it only reads names, and does nothing else but `default` and `json`."""
    return (
        isinstance(expression, FilteredExpression)
        and isinstance(expression.left, _PLAIN)
        and all(
            one.name in LOOK_UP_FILTERS and all(isinstance(arg, _PLAIN) for arg in one.children())
            for one in expression.filters or ()
        )
    )


def writer(expression: Expression, target: Target) -> Write:
    """Writes what a look-up comes to; raises what the library raises."""
    assert isinstance(expression, FilteredExpression)
    read = _reader(expression.left)
    steps = [_step(one) for one in expression.filters or ()]
    is_as_it_is = target in _AS_THEY_ARE

    def write(scope: Values) -> str:
        found = read(scope)
        for step in steps:
            found = step(found)
        if found is _NOT_PLAIN:
            found = expression.evaluate(context_of(scope))
        elif is_as_it_is:
            if isinstance(found, str):
                return found
            if type(found) in _KNOW_THEIR_TEXT:
                return str(found)
        return written(found, target)

    return write


def truth(expression: Expression) -> Holds:
    """Says whether a condition holds; raises what the library raises.

    Raises RecursionError for one that is nested too deeply.
    """
    match expression:
        case BooleanExpression():
            return truth(expression.expression)
        case LogicalAndExpression():
            return _both(truth(expression.left), truth(expression.right))
        case LogicalOrExpression():
            return _either(truth(expression.left), truth(expression.right))
        case LogicalNotExpression():
            return _not(truth(expression.right))
    if type(expression) in _COMPARED:
        return _compared(expression)
    return _is_there(expression)


def _both(left: Holds, right: Holds) -> Holds:
    return lambda scope: left(scope) and right(scope)


def _either(left: Holds, right: Holds) -> Holds:
    return lambda scope: left(scope) or right(scope)


def _not(right: Holds) -> Holds:
    return lambda scope: not right(scope)


def _compared(expression: Any) -> Holds:
    compare, kinds = _COMPARED[type(expression)]
    read_left, read_right = _reader(expression.left), _reader(expression.right)

    def holds(scope: Values) -> bool:
        left, right = read_left(scope), read_right(scope)
        if (type(left) in kinds and type(right) in kinds) or (type(left) is str and type(right) is str):
            return bool(compare(left, right))
        return is_truthy(expression.evaluate(context_of(scope)))

    return holds


def _is_there(expression: Expression) -> Holds:
    read = _reader(expression)

    def holds(scope: Values) -> bool:
        found = read(scope)
        if type(found) in _TRUTHS:
            return found is not None and found is not False
        return is_truthy(expression.evaluate(context_of(scope)))

    return holds


def _reader(expression: Expression) -> Read:
    """Reads what an expression comes to, or _NOT_PLAIN."""
    if isinstance(expression, _LITERALS):
        value = expression.value
        return lambda _scope: value
    if isinstance(expression, Nil):
        return lambda _scope: None
    if isinstance(expression, Path) and not expression.children():
        return _path(*expression.path)
    return lambda _scope: _NOT_PLAIN


def _path(root: Any, *keys: Any) -> Read:
    """Reads what a path through objects leads to."""
    if len(keys) != 1:
        return _long_path(root, keys)
    (key,) = keys

    def read(scope: Values) -> Any:
        try:
            found = scope[root]
            return found[key] if type(found) is dict else _NOT_PLAIN
        except KeyError:
            return _NOT_PLAIN

    return read


def _long_path(root: Any, keys: tuple[Any, ...]) -> Read:
    def read(scope: Values) -> Any:
        try:
            found = scope[root]
            for key in keys:
                if type(found) is not dict:
                    return _NOT_PLAIN
                found = found[key]
        except KeyError:
            return _NOT_PLAIN
        return found

    return read


def _step(one: Filter) -> Callable[[Any], Any]:
    is_alone = not one.args
    if one.name == "json" and is_alone:
        return _json
    if one.name == "default" and (is_alone or _has_one_argument(one)):
        return _default
    return lambda _found: _NOT_PLAIN


def _has_one_argument(one: Filter) -> bool:
    return len(one.args) == 1 and isinstance(one.args[0], PositionalArgument)


def _default(found: Any) -> Any:
    """What is found, if it is certain that it needs no default."""
    if (type(found) is str and 0 < len(found) <= _MAX_PLAIN_CHARS) or type(found) in _FILLED:
        return found
    return _NOT_PLAIN


def _json(found: Any) -> Any:
    if type(found) in _KNOW_THEIR_TEXT:
        return JsonText(found)
    if type(found) is str and len(found) <= _MAX_PLAIN_CHARS:
        try:
            return json_text(found)
        except ValueError:  # the library says so with its place
            pass
    return _NOT_PLAIN
