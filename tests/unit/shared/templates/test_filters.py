"""What filters make of values, and of what they cannot use."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from shared.templates.filters import FILTERS, MAX_ITEMS
from shared.templates.language import TemplateError
from tests.subjects import rendered, subject

VALUES = subject(
    b'{"t":true,"n":null,"d":10.00,"big":25000000000000000000,"o":{"d":10.00,"n":null},"l":[1.50,true,null,"x"],'
    b'"rows":[{"sku":"a","n":1},{"n":2},{"sku":null}],"s":"\\ud800","e":""}'
)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ body.t | append: '!' }} {{ 'is ' | append: body.t }}", "true! is true"),
        ("{{ body.n | append: '!' }}{{ 'a' | append: body.n }}{{ body.q | upcase }}", "!a"),
        ("{{ body.o | append: '' }}", '{"d":10.00,"n":null}'),
        ("{{ 'of ' | append: body.l }}", 'of [1.50,true,null,"x"]'),
        ("{{ body.d | append: ' EUR' }} {{ body.big | prepend: '#' }}", "10.00 EUR #25000000000000000000"),
        ("{{ body.l | join: '-' }}", "1.50-true--x"),
        ("{{ body.n | join }}|{{ body.q | join }}|{{ body.o | join }}", '||{"d":10.00,"n":null}'),
        ("{{ body.o | base64_encode | base64_decode }}", '{"d":10.00,"n":null}'),
        ("{{ body.t | upcase }} {{ body.d | slice: 0, 4 }} {{ body.t | slice: 0, 2 }}", "TRUE 10.0 tr"),
        ("{{ body.l | slice: 0, 2 | json }}", "[1.50,true]"),
        ("{{ body.rows | map: 'sku' | json }}", '["a",null,null]'),
        ("{{ body.rows | map: 'sku' }} {{ body.rows | map: 'sku' | join: ',' }}", '["a",null,null] a,,'),
        ("{{ body.rows | map: 'sku' | compact | json }}", '["a"]'),
        ("{{ body.rows | compact: 'sku' | json }}", '[{"sku":"a","n":1}]'),
        ("{{ body.rows | sum: 'n' }} {{ body.rows | map: 'q' | compact | size }}", "3 0"),
        ("{{ 'truncate me' | truncate: 5 }} {{ 'a b c' | truncatewords: 2 }}", "tr... a b..."),
        ("{{ 'a,b' | split: ',' | json }} {{ 'ab' | split: '' | json }}", '["a","b"] ["a","b"]'),
    ],
)
def test_a_filter_sees_a_value_as_a_text_would_show_it(text: str, result: str) -> None:
    """Fails when Python's own True, None or ['a'] gets into what is sent."""
    assert rendered(text, VALUES) == result


def test_a_hash_is_of_what_a_receiver_sees() -> None:
    expected = hashlib.sha256(b'{"d":10.00,"n":null}').hexdigest()
    assert rendered("{{ body.o | sha256 }}", VALUES) == expected
    assert rendered("{{ body.t | sha256 }}", VALUES) == hashlib.sha256(b"true").hexdigest()


@pytest.mark.parametrize(
    ("value", "form", "result"),
    [
        ("'2026-01-02T03:04:05Z'", "%d.%m.%Y %H:%M %z", "02.01.2026 03:04 +0000"),
        ("1767225600", "%Y-%m-%d", "2026-01-01"),
        ("'1767225600'", "%Y-%m-%d", "2026-01-01"),
        ("body.seconds", "%Y-%m-%d %H:%M", "2026-01-01 00:00"),
        ("'March 2026'", "%Y-%m-%d", "2026-03-01"),
        ("'no time'", "%Y", "no time"),
        ("body.nothing", "%Y", ""),
        ("body.none", "%Y", ""),
    ],
)
def test_a_time_has_a_form(value: str, form: str, result: str) -> None:
    of = subject(b'{"seconds":1767225600.5,"none":null}')
    assert rendered(f"{{{{ {value} | date: '{form}' }}}}", of) == result


@pytest.mark.parametrize("value", ["now", "today", "10:00", "Friday", "5 March", "10pm"])
def test_no_time_is_todays(value: str) -> None:
    """Fails when a filter fills from the clock what a text lacks: each attempt would differ."""
    with pytest.raises(TemplateError, match="would differ at each attempt"):
        rendered(f"{{{{ '{value}' | date: '%Y-%m-%d' }}}}")


@pytest.mark.parametrize("value", ["true", "1", "1.0"])
def test_equal_values_are_not_taken_for_each_other(value: str) -> None:
    """Fails when what a number came to is remembered for whatever is equal to it."""
    assert rendered("{{ 1 | date: '%Y' }}") == "1970"
    of = subject(f'{{"v":{value}}}'.encode())
    assert rendered("{{ body.v | date: '%Y' }}", of) == ("true" if value == "true" else "1970")


# Each stumbles in another way: in the library, in Python, at a surrogate, at the end of numbers.
STUMBLING = [
    "{{ body.rows | uniq: 5 }}",
    "{{ body.l | uniq: body.s }}",
    "{{ 'ab' | uniq: 7 }}",
    "{{ body.l | compact: 'x' }}",
    "{{ body.s | base64_encode }}",
    "{{ 'ä' | base64_decode }}",
    "{{ '/w==' | base64_decode }}",
    "{{ body.huge | plus: 1 }}",
    "{{ body.huge | ceil }}",
    "{{ body.e | plus: body.e | divided_by: 0 }}",
    "{{ body.words | sum }}",
    "{{ body.l | sort }}",
    "{{ 'a' | truncate: 'x' }}",
    "{{ 'a' | append }}",
    "{{ 'a' | append: 1, 2, 3 }}",
    "{{ 'a' | upcase: body }}",
    "{{ body.words | date: body.long }}",
    "{{ 'a' | date: body.long }}",
    "{{ '9999999999999' | date: '%Y' }}",
    "{{ 7 | times: 1.5 | round: body.s | modulo: 0 }}",
]


@pytest.mark.parametrize("text", STUMBLING)
def test_whatever_a_filter_stumbles_over_is_an_error_with_its_place(text: str) -> None:
    """Fails when an exception of Python's gets out: it would end the process that renders."""
    of = subject(
        b'{"rows":[[[[[[[1]]]]]]],"l":[1,"a",null],"s":"\\ud800","e":"","huge":1e999,"words":["a","b"],"long":"'
        + b"x" * 200
        + b'"}'
    )
    with pytest.raises(TemplateError) as found:
        rendered("\n  " + text, of)
    assert found.value.message.startswith("line 2, column ")
    assert not found.value.message.startswith("line 2, column 3:"), "it is not just the output's place"
    assert found.value.message.encode()
    assert "<class" not in found.value.message


ARGUMENTS = ("", ": body.a", ": body.a, body.b", ": body.l", ": nil", ": -1", ": 1.5")
SOME = ("body.a", "body.b", "body.l", "body.o", "nil", "body.s", "body.f", "forloop")


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_no_filter_raises_anything_else(name: str) -> None:
    of = subject(
        b'{"a":"x y","b":7,"l":[1,"a",null,{"a":[1]},[2,[3]]],"o":{"a":{"b":1.50}},"s":"\\ud800","f":1e999}'
    )
    for value, arguments in itertools.product(SOME, ARGUMENTS):
        try:
            rendered(f"{{% for i in body.l %}}{{{{ {value} | {name}{arguments} }}}}{{% endfor %}}", of)
        except TemplateError as error:
            assert error.message.startswith("line 1, column ")  # noqa: PT017 - many of them are right


BIG = subject(
    {"big": "b" * 60_000, "smile": "\U0001f600" * 100_000, "lines": "\n" * 170_000, "chars": "é" * MAX_ITEMS}
)


@pytest.mark.parametrize(
    "text",
    [
        '{{ "x" | replace: "x", body.big | replace: "b", body.big }}',
        "{{ body.smile | url_encode }}",
        "{{ body.lines | newline_to_br }}",
        "{{ body.chars | append: 'x' | split: '' }}",
        "{{ body.chars | append: 'x' | replace: 'é', 'é,' | split: ',' }}",
        "{{ body.chars | split: '' | join: body.big }}",
    ],
)
def test_what_grows_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(TemplateError, match=r"^line 1, column (?!1:).*larger than"):
        rendered(text, BIG)
