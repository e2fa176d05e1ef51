"""The Liquid of templates: which tags and filters there are, and how much of anything.

Invariants:

- A text that parses here has bounded markup, no ranges and no tag or filter that is not listed.
- What is wrong with a text is said with its line and its column, both from 1.

Source: the Liquid language, as python-liquid implements it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any, TextIO

from liquid import Environment
from liquid.ast import IllegalNode, Node
from liquid.builtin import content, illegal
from liquid.builtin.expressions import BooleanExpression, Filter, FilteredExpression, tokenize
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags import (
    assign_tag,
    case_tag,
    comment_tag,
    for_tag,
    if_tag,
    inline_comment_tag,
    unless_tag,
)
from liquid.context import RenderContext
from liquid.exceptions import LiquidError, LiquidSyntaxError
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION, Token

from shared.errors import Invalid
from shared.templates.filters import FILTERS, MAX_CHARS
from shared.templates.targets import Target, written

MAX_MARKUPS = 500
MAX_MARKUP_CHARS = 2_000
MAX_CONDITION_CHARS = 2_000
MAX_ITERATIONS = 10_000

# What the library says may repeat what it was given.
MAX_ERROR_CHARS = 300

_BEGINS = re.compile(r"\{\{|\{%")
_ENDS = {"{{": "}}", "{%": "%}"}
_RAW = re.compile(r"\{%-?\s*raw\s*-?%\}")
_END_OF_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_WORDS = (
    *("assign", "break", "case", "comment", "continue", "else", "elsif", "endcase", "endcomment"),
    *("endfor", "endif", "endraw", "endunless", "for", "if", "raw", "unless", "when"),
)
_TAGS = (
    assign_tag.AssignTag,
    case_tag.CaseTag,
    comment_tag.CommentTag,
    content.Literal,
    for_tag.BreakTag,
    for_tag.ContinueTag,
    for_tag.ForTag,
    if_tag.IfTag,
    inline_comment_tag.InlineCommentTag,
    unless_tag.UnlessTag,
)


class TemplateError(Invalid):
    """What is wrong with a template or a condition, and where."""

    code = "bad_template"
    hint = "docs/templates.md has the names, tags and filters that there are."

    def at(self, where: str) -> TemplateError:
        """The same with its place in front: which text it is."""
        return TemplateError(f"{where}: {self.message}", code=self.code, hint=self.hint)


class WrittenNode(OutputNode):
    """An output that is written as its target demands."""

    __slots__ = ("target",)

    def __init__(self, node: OutputNode, target: Target) -> None:
        super().__init__(node.token, node.expression)
        self.target = target

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(written(self.expression.evaluate(context), self.target))


class _WrittenOutput(Output):
    def parse(self, stream: TokenStream) -> OutputNode:
        assert isinstance(self.env, Language)
        return WrittenNode(super().parse(stream), self.env.target)


class _UnknownTag(illegal.Illegal):
    """A tag that there is not here."""

    def parse(self, stream: TokenStream) -> IllegalNode:
        name = stream.current.value
        try:
            return super().parse(stream)
        except LiquidSyntaxError as error:
            near = [] if name in _WORDS else get_close_matches(name, _WORDS, n=1)
            meant = f"; did you mean {near[0]}" if near else ""
            raise LiquidSyntaxError(f"{error.message}{meant}", token=error.token) from None


class Language(Environment):
    """The tags, the filters and the limits, for one target."""

    block_nesting_limit = 20
    context_depth_limit = 30
    loop_iteration_limit = MAX_ITERATIONS
    local_namespace_limit = MAX_CHARS
    output_stream_limit = MAX_CHARS
    logical_not_operator = True
    logical_parentheses = True

    def __init__(self, target: Target) -> None:
        self.target = target
        super().__init__()

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:  # noqa: ARG002 - liquid's signature
        for tag in (*_TAGS, _UnknownTag, _WrittenOutput):
            self.add_tag(tag)
        self.filters.update(FILTERS)


@cache
def language(target: Target) -> Language:
    """The language of one target."""
    return Language(target)


def parse(text: str, target: Target) -> BoundTemplate:
    """A template; raises TemplateError."""
    _must_be_bounded(text)
    try:
        parsed = language(target).from_string(text)
    except LiquidError as error:
        if isinstance(error.__cause__, MemoryError):
            raise MemoryError from None
        raise _translated(error, text, _first_faulty(text, target)) from None
    _must_be_allowed(parsed, text)
    if target is Target.URL:
        _mark_query(parsed.nodes)
    return parsed


def _mark_query(nodes: list[Node]) -> None:
    """Have what stands behind the `?` of a URL written as of a query."""
    is_behind = False
    for node in nodes:
        if isinstance(node, content.ContentNode):
            is_behind = is_behind or "?" in node.text
        elif is_behind:
            for inner in nodes_in([node]):
                if isinstance(inner, WrittenNode):
                    inner.target = Target.FORM


def parse_condition(text: str) -> BooleanExpression:
    """A condition; raises TemplateError."""
    if len(text) > MAX_CONDITION_CHARS:
        raise TemplateError(f"A condition has at most {MAX_CONDITION_CHARS} characters.")
    token = Token(TOKEN_EXPRESSION, text, 0, text)
    try:
        found = BooleanExpression.parse(language(Target.TEXT), TokenStream(tokenize(text, token)))
    except (LiquidError, RecursionError) as error:
        raise _translated(error, text, 0) from None
    for expression in expressions_in(found):
        if isinstance(expression, RangeLiteral):
            raise at(text, max(expression.token.start_index, 0), "a range (a..b) is not allowed")
    return found


def at(text: str, index: int, what: str) -> TemplateError:
    """The error of something at an index of a text.

    what: may repeat what nothing can hold, as a lone surrogate.
    """
    line = text.count("\n", 0, index) + 1
    column = index - text.rfind("\n", 0, index)
    said = what[:MAX_ERROR_CHARS].encode("utf-8", "backslashreplace").decode()
    return TemplateError(f"line {line}, column {column}: {said}.")


def nodes_in(nodes: list[Node]) -> Iterator[Node]:
    """All nodes of a template, the inner ones too."""
    for node in nodes:
        yield node
        yield from nodes_in(list(node.children(_NO_CONTEXT, include_partials=False)))


def expressions_in(*roots: Expression) -> Iterator[Expression]:
    """Expressions with all that is in them."""
    pending = list(roots)
    while pending:
        expression = pending.pop()
        yield expression
        pending += expression.children()


_NO_CONTEXT: Any = None


def _must_be_bounded(text: str) -> None:
    """Refuse what would take long to parse, before anything is parsed."""
    position = count = 0
    while (found := _BEGINS.search(text, position)) is not None:
        count += 1
        if count > MAX_MARKUPS:
            raise at(text, found.start(), f"a text has at most {MAX_MARKUPS} tags and outputs")
        end = text.find(_ENDS[found.group()], found.end(), found.end() + MAX_MARKUP_CHARS)
        if end < 0:
            raise at(
                text,
                found.start(),
                f"{found.group()} has no {_ENDS[found.group()]} within {MAX_MARKUP_CHARS} characters",
            )
        position = end + 2
        if _RAW.match(text, found.start()):
            closing = _END_OF_RAW.search(text, position)
            if closing is None:
                raise at(text, found.start(), "raw has no endraw")
            position = closing.end()


def _first_faulty(text: str, target: Target) -> int:
    """Where the first output stands that does not parse alone, else the first tag."""
    position, first = 0, None
    while (found := _BEGINS.search(text, position)) is not None:
        first = found.start() if first is None else first
        end = text.find(_ENDS[found.group()], found.end())
        if found.group() == "{{":
            try:
                language(target).from_string(text[found.start() : end + 2])
            except LiquidError:
                return found.start()
        position = end + 2
    return first or 0


def _translated(error: BaseException, text: str, elsewhere: int) -> TemplateError:
    """Our error for one of the library's. elsewhere: where it is, if the library does not know."""
    if not isinstance(error, LiquidError):
        return at(text, elsewhere, "it is nested too deeply")
    index, message = elsewhere, str(error.message)
    if error.token is not None and 0 <= error.token.start_index < len(text) and error.token.source == text:
        index = error.token.start_index
    if isinstance(error.__cause__, RecursionError):
        message = "it is nested too deeply"
    return at(text, index, message)


def _must_be_allowed(parsed: BoundTemplate, text: str) -> None:
    for node in nodes_in(parsed.nodes):
        for expression in expressions_in(*node.expressions()):
            if isinstance(expression, RangeLiteral):
                raise at(text, expression.token.start_index, "a range (a..b) is not allowed")
            if isinstance(expression, FilteredExpression):
                for one in expression.filters or ():
                    _must_be_known(one, text)


def _must_be_known(one: Filter, text: str) -> None:
    if one.name not in FILTERS:
        near = get_close_matches(one.name, FILTERS, n=1)
        meant = f"; did you mean {near[0]}" if near else ""
        raise at(text, one.token.start_index, f"there is no filter {one.name}{meant}")
