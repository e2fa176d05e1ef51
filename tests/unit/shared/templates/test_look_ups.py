"""What is looked up quickly means what the library says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from liquid.exceptions import LiquidError

from shared.templates.language import TemplateError, parse, parse_condition
from shared.templates.look_ups import context_of, truth, writer
from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target, written
from shared.templates.template import Template, condition
from shared.templates.values import LongInteger, Number

KEYS = ["a", "b", "size", "first", "last", "0", "body"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(
        [
            Number("10.00"),
            Number("-0"),
            Number("1e2"),
            LongInteger("25000000000000000000"),
            LongInteger("9" * 200),
        ]
    )
    | st.sampled_from(["", " ", "a", "size", "xyz", '"<&', "\ud800", "x" * 1_001])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
SCOPES = st.fixed_dictionaries({"body": VALUES | st.fixed_dictionaries({"a": VALUES, "b": VALUES})}).map(
    lambda scope: {**scope, "query": {"name": "a"}}
)

LOOK_UPS = [
    "body",
    "body.a",
    "body.a.b",
    "body.a.b[0]",
    "body[query.name]",
    "body.size",
    "body.first",
    "missing.x",
    "'x'",
    "3",
    "1.5",
    "true",
    "nil",
    "body.a | default: 'none'",
    "body.a | default: body.b",
    "body.a | default",
    "body.a | default: 'none', allow_false: true",
    "body.a | default: 'none', 'too many'",
    "body.a | json",
    "body.a | default: 0 | json",
    "body.a | json | default: 1",
    "1.5 | json",
]
CONDITIONS = [
    "body.a",
    "body.a == body.b",
    "body.a != 'a'",
    "body.a < 2",
    "body.a <= body.b",
    "body.a > 'a'",
    "2 >= body.a",
    "body.a == true",
    "body.a == nil",
    "body.a == empty",
    "body.a contains 'a'",
    "body contains 'a'",
    "body.a and body.b == 2",
    "body.a == 1 or not body.b",
    "not (body.a or body.b) and true",
    "body.size > 1",
    "1.5 < body.a",
]


def outcome(make: Callable[[], Any]) -> Any:
    """What is made, or how that fails."""
    try:
        return make()
    except (LiquidError, ValueError) as error:
        return type(error).__name__, str(error)


@given(scope=SCOPES, target=st.sampled_from(list(Target)))
@pytest.mark.parametrize("text", LOOK_UPS)
def test_a_look_up_writes_what_the_library_finds(text: str, scope: dict[str, Any], target: Target) -> None:
    (node,) = parse(f"{{{{ {text} }}}}", Target.TEXT).nodes
    (expression,) = node.expressions()
    slow = outcome(lambda: written(expression.evaluate(context_of(scope)), target))
    assert outcome(lambda: writer(expression, target)(scope)) == slow


@given(scope=SCOPES)
@example(scope={"body": {"a": True, "b": 1}})
@example(scope={"body": {"a": "x", "b": 1}})
@example(scope={"body": {"a": 1, "b": 1.0}})
@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_holds_where_it_does_in_the_library(text: str, scope: dict[str, Any]) -> None:
    parsed = parse_condition(text)
    slow = outcome(lambda: parsed.evaluate(context_of(scope)))
    assert outcome(lambda: truth(parsed)(scope)) is slow or outcome(lambda: truth(parsed)(scope)) == slow


def test_it_is_bounded_as_a_render_is() -> None:
    template = Template("{{ body }}{{ body }}", Target.TEXT)
    scope = {"body": "é" * 10}
    assert template.render(scope, 40) == "é" * 20
    with pytest.raises(TemplateError, match="limit"):
        template.render(scope, 39)
    with pytest.raises(TemplateError, match="surrogates"):
        Template("{{ body }}", Target.TEXT).render({"body": "\ud800"})


def test_what_fails_names_its_place() -> None:
    with pytest.raises(TemplateError, match="line 1, column 17: "):
        Template("{{ body.a }} and{{ body.b }}", Target.JSON).render({"body": {"a": 1, "b": "\ud800"}})
    with pytest.raises(TemplateError, match="line 1, column 8: '<' and '>' are not supported"):
        condition("body.a < 2").holds({"body": {"a": "x"}})


def test_a_condition_that_is_nested_too_deeply_says_so() -> None:
    with pytest.raises(TemplateError, match="nested too deeply"):
        condition("not " * 480 + "true")
    assert condition("not " * 40 + "true").holds({})


def test_a_condition_reads_what_a_call_brought() -> None:
    body = json.dumps({"a": {"b": [1]}}).encode()
    ids, now = (UUID(int=1), UUID(int=2)), datetime(2026, 1, 2, tzinfo=UTC)
    subject = Subject(ids[0], now, "POST", "/t/x", "n=1", "[]", "application/json", body, ids[1], "name")
    scope = Scope(subject)
    assert condition("body.a.b[0] == 1 and query.n == '1' and trigger.method == 'POST'").holds(scope)
    assert condition("trigger.receivedAt == '2026-01-02T00:00:00+00:00'").holds(scope)
    assert condition(f"trigger.id == '{ids[0]}' and callback.id == '{ids[1]}'").holds(scope)
    assert not condition("body.a.c or unknown.x").holds(scope)
