"""A value cannot leave its place."""

from __future__ import annotations

import html
import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.templates.language import TemplateError
from shared.templates.targets import Target
from tests.subjects import rendered, subject

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts)
def test_a_text_is_one_string_of_a_json_text(value: str) -> None:
    made = rendered('{"a": "{{ body.v }}", "b": {{ body | json }}}', subject({"v": value}), Target.JSON)
    assert json.loads(made) == {"a": value, "b": {"v": value}}


@given(texts.filter(lambda value: bool(value.strip("."))))
def test_a_text_is_one_piece_of_a_path_and_of_a_query(value: str) -> None:
    made = rendered(
        "https://x.example/a/{{ body.v }}/b?q={{ body.v }}&r=1", subject({"v": value}), Target.URL
    )
    parts = urlsplit(made)
    assert (parts.scheme, parts.netloc, parts.path.count("/"), parts.fragment) == (
        "https",
        "x.example",
        3,
        "",
    )
    assert parse_qsl(parts.query, keep_blank_values=True) == [("q", value), ("r", "1")]


@pytest.mark.parametrize("value", [".", "..", "..."])
def test_dots_do_not_climb(value: str) -> None:
    """Fails when a caller chooses another path by a value of dots, percent-encoded or not."""
    with pytest.raises(TemplateError, match="dots"):
        rendered("https://x.example/a/{{ body.v }}/b", subject({"v": value}), Target.URL)


@pytest.mark.parametrize("value", [".", "..", "..."])
def test_dots_are_dots_where_they_cannot_climb(value: str) -> None:
    """Fails when a caller makes an execution fail by a value of dots in a query or a form."""
    of = subject({"v": value})
    url = "https://x.example/a?q={{ body.v }}{% if body.v %}&r={{ body.v }}{% endif %}"
    assert rendered(url, of, Target.URL) == f"https://x.example/a?q={value}&r={value}"
    assert rendered("a={{ body.v }}&b=1", of, Target.FORM) == f"a={value}&b=1"
    for climbing in (
        "https://x.example/{{ body.v }}?q=1",
        "https://x.example/{% if body.v %}?{% endif %}{{ body.v }}",
    ):
        with pytest.raises(TemplateError, match="dots"):
            rendered(climbing, of, Target.URL)


@given(texts)
def test_a_text_is_text_in_html(value: str) -> None:
    made = rendered("<p>{{ body.v }}</p>", subject({"v": value}), Target.HTML)
    assert html.unescape(made[3:-4]) == html.unescape(html.escape(value))
    assert made.count("<") == made.count(">") == 2


@pytest.mark.parametrize("target", [Target.TEXT, Target.HEADER])
def test_elsewhere_a_value_stands_as_it_is(target: Target) -> None:
    assert rendered("{{ body.note }}", target=target) == 'says "hi"\n'


def test_each_kind_of_value_has_a_text() -> None:
    of = subject(b'{"t":true,"f":false,"n":null,"l":[1,2.50],"o":{"a":"b"},"d":10.00}')
    assert rendered("{{ body.t }} {{ body.f }} {{ body.n }}|{{ body.missing }}", of) == "true false |"
    assert rendered("{{ body.l }} {{ body.o }} {{ body.d }}", of) == '[1,2.50] {"a":"b"} 10.00'
    assert rendered("{{ body.n | json }}{{ body.missing | json }}{{ body.t | json }}", of) == "nullnulltrue"


def test_what_no_text_can_hold_is_an_error() -> None:
    with pytest.raises(TemplateError):
        rendered("{{ body.v }}", subject(b'{"v":"\\ud800"}'), Target.JSON)
    with pytest.raises(TemplateError):
        rendered("{{ body.v }}", subject(b'{"v":"\\ud800"}'))
