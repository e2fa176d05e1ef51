"""Templates and conditions that are parsed: what they need, and what they come to.

Invariant: a look-up, which reads names and does nothing else but `default` and `json`, takes a time
that its text and what it reads bound. Only such are for the process that carries runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError, LiquidInterrupt, OutputStreamLimitError
from liquid.expression import Expression
from liquid.output import LimitedStringIO

from shared.templates import names
from shared.templates.filters import MAX_CHARS
from shared.templates.kept import Kept
from shared.templates.language import (
    TemplateError,
    WrittenNode,
    at,
    expressions_in,
    nodes_in,
    parse,
    parse_condition,
)
from shared.templates.look_ups import Values, Write, context_of, is_look_up, truth, writer
from shared.templates.targets import Target

# So many outputs are looked up in place; a template with more is rendered apart.
MAX_LOOK_UPS = 50

# So many parts (nodes, expressions, filters) of templates are kept, and as many of conditions. Each
# takes about 500 bytes, as so many characters do. Most templates have fewer than ten.
MAX_KEPT = 16_384
CHARS_OF_A_PART = 64

# What a text may stumble over when it is rendered. A `break` outside of a loop is an interrupt.
_FAULTS = (
    *(LiquidError, LiquidInterrupt, ValueError, ArithmeticError, TypeError, LookupError),
    *(AttributeError, RecursionError),
)


def is_template(text: str) -> bool:
    """Whether a text has anything to render."""
    return "{{" in text or "{%" in text


class Template:
    """A parsed template.

    look_ups: how many outputs it has, None if it is more than look-ups. answers: the actions whose
    answers it needs. is_json_value: it is one JSON value, and nothing around it. weight: of how
    many parts it is made, and its characters.
    """

    __slots__ = (
        *("_nodes", "_pieces", "answers", "is_json_value", "look_ups", "names", "target", "text"),
        "weight",
    )

    def __init__(self, text: str, target: Target) -> None:
        parsed = parse(text, target)
        self.text = text
        self.target = target
        try:
            self.names = names.of_template(parsed)
        except RecursionError:
            raise at(text, 0, "it is nested too deeply") from None
        self.answers = names.answers_in(self.names)
        self.weight = len(text) // CHARS_OF_A_PART
        for node in nodes_in(parsed.nodes):
            self.weight += 1 + _weight(node.expressions())
        self.look_ups = _look_ups(parsed.nodes)
        self.is_json_value = len(parsed.nodes) == 1 and _is_json(parsed.nodes[0])
        self._nodes = parsed.nodes
        self._pieces = [] if self.look_ups is None else [_piece(node) for node in parsed.nodes]

    def render(self, scope: Values, at_most: int = MAX_CHARS) -> str:
        """The text that it comes to; raises TemplateError. at_most: bytes."""
        if not self._pieces:
            return self._rendered(scope, at_most)
        texts: list[str] = []
        index = 0
        try:
            for text, write, index in self._pieces:  # noqa: B007
                texts.append(text if write is None else write(scope))
            found = "".join(texts)
            if (len(found) if found.isascii() else len(found.encode())) > at_most:
                raise OutputStreamLimitError("output stream limit reached", token=None)
        except _FAULTS as error:
            raise _failed(error, self.text, index) from None
        return found

    def _rendered(self, scope: Values, at_most: int) -> str:
        context = context_of(scope)
        buffer = LimitedStringIO(at_most, newline="")
        index = 0
        try:
            for node in self._nodes:
                index = node.token.start_index
                node.render(context, buffer)
        except _FAULTS as error:
            raise _failed(error, self.text, index) from None
        return buffer.getvalue()


class Condition:
    """A parsed condition. Each is a look-up."""

    __slots__ = ("_holds", "answers", "names", "text", "weight")

    def __init__(self, text: str) -> None:
        self.text = text
        parsed = parse_condition(text)
        try:
            self.names = names.of_condition(parsed)
            self._holds = truth(parsed)
        except RecursionError:
            raise at(text, 0, "it is nested too deeply") from None
        self.answers = names.answers_in(self.names)
        self.weight = _weight([parsed]) + len(text) // CHARS_OF_A_PART

    def holds(self, scope: Values) -> bool:
        """Whether it is true; raises TemplateError."""
        try:
            return self._holds(scope)
        except _FAULTS as error:
            raise _failed(error, self.text, 0) from None


def template(text: str, target: Target) -> Template:
    """The template of a text; raises TemplateError."""
    return _templates(text, target)


def condition(text: str) -> Condition:
    """The condition of a text; raises TemplateError."""
    return _conditions(text)


_templates = Kept(Template, MAX_KEPT)
_conditions = Kept(Condition, MAX_KEPT)


def _failed(error: Exception, text: str, index: int) -> TemplateError:
    """Our error for a fault. index: where it is, if the library does not know better."""
    if isinstance(error, LiquidInterrupt):
        return at(text, index, f"{error} outside of a loop")
    token = error.token if isinstance(error, LiquidError) else None
    if token is not None and token.source == text:
        index = token.start_index
    message = str(error.message) if isinstance(error, LiquidError) else str(error) or type(error).__name__
    return at(text, max(index, 0), message)


def _weight(expressions: Iterable[Expression]) -> int:
    return sum(
        1 + len(getattr(expression, "filters", None) or ()) for expression in expressions_in(*expressions)
    )


class _Piece(NamedTuple):
    """Of a template that is a look-up: a fixed text, or what writes what is looked up."""

    text: str
    write: Write | None
    start: int


def _piece(node: Node) -> _Piece:
    index = node.token.start_index
    if isinstance(node, ContentNode):
        return _Piece(node.text, None, index)
    assert isinstance(node, WrittenNode)
    return _Piece("", writer(node.expression, node.target), index)


def _look_ups(nodes: list[Node]) -> int | None:
    count = 0
    for node in nodes:
        if isinstance(node, ContentNode):
            continue
        if not (isinstance(node, OutputNode) and is_look_up(node.expression)):
            return None
        count += 1
    return count if count <= MAX_LOOK_UPS else None


def _is_json(node: Node) -> bool:
    if not isinstance(node, OutputNode) or not isinstance(node.expression, FilteredExpression):
        return False
    filters = node.expression.filters or []
    return bool(filters) and filters[-1].name == "json"
