"""Which texts are templates, and what is wrong with the others."""

from __future__ import annotations

import time

import pytest

from shared.templates import filters
from shared.templates.language import MAX_MARKUP_CHARS, MAX_MARKUPS, TemplateError, parse, parse_condition
from shared.templates.targets import Target
from shared.templates.template import condition, is_template, template
from tests.subjects import holds, rendered, subject

# text, line, column, what is said
WRONG = [
    ("a\nb {{ body. }}", 2, 3, "expected an identifier"),
    ("{{ body.a }} {{ body..b }}", 1, 21, "expected"),
    ("{{ body.a", 1, 1, "has no }}"),
    ("x\n\n{% if body.a %}", 3, 1, "endif"),
    ("{% include 'other' %}", 1, 4, "include"),
    ("{% render 'other' %}", 1, 4, "render"),
    ("{% capture x %}{% endcapture %}", 1, 4, "capture"),
    ("{% increment x %}", 1, 4, "increment"),
    ("a\n{% iff body.a %}{% endif %}", 2, 4, "did you mean if"),
    ("{% if body.a %}{% esle %}{% endif %}", 1, 19, "did you mean else"),
    ("{% " + "i" * 1_900 + " %}", 1, 4, "unexpected tag"),
    ("{{ body.a | upcse }}", 1, 13, "did you mean upcase"),
    ("{% assign x = (1..9) %}", 1, 15, "range"),
    ("{% if (1..9) contains 3 %}{% endif %}", 1, 7, "range"),
    ("{% case body.a %}{% when (1..9) %}{% endcase %}", 1, 26, "range"),
    ("{{ body.a | join: (1..9) }}", 1, 19, "range"),
    ("{% for i in body.a limit: (1..9) %}{% endfor %}", 1, 27, "range"),
    ("{% for i in body.a %}{% if body.a %}{% elsif (1..9) %}{% endif %}{% endfor %}", 1, 46, "range"),
    ("{{ (1..1000000000) | join: ',' }}", 1, 4, "range"),
    ("{% for i in (1..9) %}{% endfor %}", 1, 13, "range"),
    ("{{ body.a | unheard_of }}", 1, 13, "unheard_of"),
    ("{{ 1 }}" * (MAX_MARKUPS + 1), 1, 7 * MAX_MARKUPS + 1, "at most"),
    ("{{ 'x" + "x" * MAX_MARKUP_CHARS + "' }}", 1, 1, "within"),
    ("{% raw %}{{ x", 1, 1, "endraw"),
    ("{{ " + "(" * 900 + " }}", 1, 4, "lparen"),
    ("{% if " + "(" * 900 + " %}{% endif %}", 1, 1, "nested"),
]


@pytest.mark.parametrize(("text", "line", "column", "says"), WRONG)
def test_what_is_wrong_is_said_with_its_place(text: str, line: int, column: int, says: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateError) as found:
        template(text, Target.TEXT)
    assert found.value.message.startswith(f"line {line}, column {column}: ")
    assert says in found.value.message
    assert len(found.value.message) < 500
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "{{" * 130_000,
        "{{ " + "a[" * 400 + "0" + "]" * 400 + " }}",
        "{%" * 130_000,
        "{{}}" * 60_000,
        "{% raw %}" * 28_000,
        "{{ " + "a[" * 650 + "0" + "]" * 650 + " }}",
        "{{ 'x' | append: " + "body.a[" * 260 + "0" + "]" * 260 + " }}",
        "{% if " + "not " * 490 + "a %}{% endif %}",
        "{% if " + "(a) or " * 280 + "a %}{% endif %}",
        ("{% if " + "(a) or " * 280 + "a %}{% endif %}") * 50,
        ("{{ " + '[" ' * 600 + " }}") * 100,
    ],
)
def test_no_text_takes_long_to_refuse_or_to_parse(text: str) -> None:
    """Fails when an expression in the lexer goes over the rest of a text again and again."""
    began = time.monotonic()
    try:
        parse(text, Target.TEXT)
    except TemplateError as error:
        assert len(error.message) < 500  # noqa: PT017 - some of them parse
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "body.a =",
        "body.a | size",
        "a == (1..2)",
        "(" * 1_900,
        "body.a %} x {% if y",
        "x" * 2_001,
        "body.a == 'x",
    ],
)
def test_a_condition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_condition(text)


@pytest.mark.parametrize(
    "text", ["(" * 600 + "a" + ")" * 600, "not " * 490 + "a", "a[" * 650 + "0" + "]" * 650]
)
def test_a_condition_that_is_nested_deeply_takes_no_long_and_breaks_nothing(text: str) -> None:
    began = time.monotonic()
    try:
        holds(text)
    except TemplateError as error:
        assert len(error.message) < 500  # noqa: PT017 - some of them parse
    assert time.monotonic() - began < 1


def test_a_wrong_condition_says_where() -> None:
    for text, column, says in [
        ("body.a and (1..9) == 1", 12, "range"),
        ("body.a == 1 and\n body.b =", 9, "="),
        ("body.a ? 1", 8, "unexpected"),
    ]:
        with pytest.raises(TemplateError, match=f"column {column}: .*{says}"):
            parse_condition(text)


def test_a_text_without_markup_is_no_template() -> None:
    assert not is_template("{ body.a } %} }}")
    assert is_template("{{ body.a }}")
    assert is_template("{% if body.a %}")


def test_every_filter_is_liquids_or_ours() -> None:
    assert {"json", "sha256", "default", "date"} <= filters.FILTERS.keys()
    assert not {"safe", "escapejs", "strip_html"} & filters.FILTERS.keys()


def test_the_language() -> None:
    of = subject({"a": [3, 1, 2], "s": "x y", "n": 10.5})
    assert (
        rendered(
            "{% for i in body.a %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{{ forloop.index }} {% endfor %}",
            of,
        )
        == "31 12 "
    )
    assert (
        rendered("{% assign t = body.s | upcase %}{{ t }}{% unless body.q %}!{% endunless %}", of) == "X Y!"
    )
    assert (
        rendered(
            "{% case body.n %}{% when 10.5 %}yes{% else %}no{% endcase %}{% comment %}{{ body }}{% endcomment %}",
            of,
        )
        == "yes"
    )
    assert rendered("{% raw %}{{ body }}{% endraw %}{%- # nothing -%} x", of) == "{{ body }}x"
    assert (
        rendered(
            "{{ body.a | sort | join: '-' }} {{ body.n | plus: 1 }} {{ body.s | sha256 | slice: 0, 8 }}", of
        )
        == "1-2-3 11.5 887fcea6"
    )


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("body.type == 'order.paid'", True),
        ("body.id > 6 and body.id <= 7", True),
        ("not (body.id == 7)", False),
        ("body.type contains 'paid' or body.id == 8", True),
        ("body.nothing", False),
        ("body.none == nil and body.nothing == nil", True),
        ("headers['x-a'] == 'b'", True),
        ("query.q == '1'", True),
        ("trigger.method == 'POST' and callback.name == 'orders'", True),
        ("body.items.size == 2 and body.items[0].sku == 'a'", True),
    ],
)
def test_a_condition_holds_or_not(text: str, is_true: bool) -> None:
    assert holds(text, subject(headers={"x-a": "b"}, query="q=1")) is is_true


def test_what_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(TemplateError, match="not supported"):
        holds("body.items < 3")
    assert condition("body.id") is condition("body.id"), "it is parsed once"
