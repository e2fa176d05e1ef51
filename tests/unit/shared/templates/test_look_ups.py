"""What is looked up quickly means what the library says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from liquid.undefined import Undefined

from shared.templates.language import TemplateError
from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target
from shared.templates.template import Template, condition, context_of, look_ups_of

KEYS = ["a", "b", "size", "first", "last", "0", "body"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["", "a", "size", "xyz"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(st.sampled_from(KEYS) | st.integers(-2, 2), min_size=1, max_size=4)


def comparable(found: Any) -> Any:
    return "nothing" if isinstance(found, Undefined) else found


@given(scope=st.dictionaries(st.sampled_from(["body", "query"]), VALUES), path=PATHS)
def test_a_path_leads_where_it_leads_in_the_library(scope: dict[str, Any], path: list[Any]) -> None:
    quick = look_ups_of(scope).get(["body", *path], token=None)
    slow = context_of(scope).get(["body", *path], token=None)
    assert comparable(quick) == comparable(slow)


TEXTS = [
    "{{ body.a }} and {{ body.b | json }}{{ body.missing }}",
    "{{ body.a.b[0] | default: 'none' }}",
    "{{ body[query.name] }}",
    "{{ body.size }}/{{ body.first }}",
    "{{ 'x' }}{{ 3 }}{{ true }}{{ nil }}",
]


@given(value=VALUES, target=st.sampled_from([Target.TEXT, Target.JSON, Target.HTML]))
@pytest.mark.parametrize("text", TEXTS)
def test_a_look_up_writes_what_a_render_writes(text: str, value: Any, target: Target) -> None:
    scope = {"body": value, "query": {"name": "a"}}
    template = Template(text, target)
    assert template.look_ups is not None
    assert template.render(look_ups_of(scope)) == template._rendered(context_of(scope), 10_000)


def test_it_is_bounded_as_a_render_is() -> None:
    template = Template("{{ body }}{{ body }}", Target.TEXT)
    scope = {"body": "é" * 10}
    assert template.render(look_ups_of(scope), 40) == "é" * 20
    with pytest.raises(TemplateError, match="limit"):
        template.render(look_ups_of(scope), 39)
    with pytest.raises(TemplateError, match="surrogates"):
        Template("{{ body }}", Target.TEXT).render(look_ups_of({"body": "\ud800"}))


def test_a_condition_reads_what_a_call_brought() -> None:
    subject = Subject(
        "t", "now", "POST", "/t/x", "n=1", "[]", "application/json", b'{"a": {"b": [1]}}', "c", "name"
    )
    look_ups = look_ups_of(Scope(subject))
    assert condition("body.a.b[0] == 1 and query.n == '1' and trigger.method == 'POST'").holds(look_ups)
    assert not condition("body.a.c or unknown.x").holds(look_ups)
