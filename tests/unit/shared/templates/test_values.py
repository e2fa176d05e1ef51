"""JSON whose numbers keep their text."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.templates.values import MAX_DIGITS, read_json, read_plain_json, to_json_text

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_what_was_read_is_written_as_it_was(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(to_json_text(read_json(text))) == value


@pytest.mark.parametrize(
    "number",
    [
        "10.00",
        "25000000000000000000",
        "-0",
        "-0.0",
        "1e5",
        "1E+05",
        "1e999",
        "-12.50",
        "9" * 18,
        "9" * 19,
        "9" * 5_000,
    ],
)
def test_a_number_keeps_its_text(number: str) -> None:
    """Fails when a number is written as a double, or as many digits break the reading."""
    assert to_json_text(read_json(f'{{"n":[{number}]}}')) == f'{{"n":[{number}]}}'
    assert str(read_json(number)) == number


def test_numbers_calculate() -> None:
    assert read_json("10.50") + 1 == 11.5
    assert read_json("9" * MAX_DIGITS) + 1 == 10**MAX_DIGITS
    assert to_json_text({"n": 10**40}) == '{"n":' + "1" + "0" * 40 + "}"


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "[" * 100_000, "{", "", b"\xff", "nul"])
def test_what_is_no_json_says_so(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


@pytest.mark.parametrize("value", [float, "\ud800", {1, 2}])
def test_what_has_no_json_text_says_so(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_json_text(value)


def shape(value: Any) -> Any:
    """A value with all that makes it what it is: types, texts of numbers, the order of fields."""
    match value:
        case dict():
            return [(key, shape(one)) for key, one in value.items()]
        case list():
            return ["list", *map(shape, value)]
    return type(value), str(value)


ANYTHING = st.text('{}[]",:0123456789-+.eE \\u\tntrfalse\ud800é', max_size=30).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
TEXTS = st.builds(
    lambda value, spaced: json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced).encode(),
    values,
    st.booleans(),
)


@given(TEXTS | ANYTHING)
@example(b'{"a": 1, "b": -0}')
@example(b"-0")
@example(b'{"a":-0.5,"b":0}')
@example(b'{"at": "2026-01-02", "n": 0}')
@example(b"[0, -0]")
@example(b"[" + b"9" * 18 + b"]")
@example(b"[" + b"9" * 19 + b"]")
@example(b"[-" + b"9" * 18 + b"]")
@example(b"[1.0]")
@example(b"[1e2]")
@example(b'{"a": 1, "b": 2, "a": 3}')
@example(b"[NaN]")
@example(b'"\\ud800"')
@example(b'"\xff"')
@example(b"[" * 1_000 + b"]" * 1_000)
@example(b'{"a":' * 400 + b"1" + b"}" * 400)
@example(b"\xef\xbb\xbf{}")
def test_what_is_read_sooner_is_the_same(text: bytes) -> None:
    try:
        sooner = read_plain_json(text)
    except ValueError:
        return
    assert shape(sooner) == shape(read_json(text))


def test_what_is_read_sooner_takes_no_longer_the_more_zeros_there_are() -> None:
    """Fails when the text is searched for each of them: 50 ms of a worker's loop for one call."""
    began = time.process_time()
    for _ in range(20):
        read_plain_json(b"[" + b",".join([b"0"] * 1_000) + b"]")
    assert time.process_time() - began < 0.2


def test_what_callers_send_every_day_is_read_sooner() -> None:
    body = {"order": 42, "at": "2026-01-02T03:04:05.678Z", "paid": True, "note": None, "lines": [{"n": 0}]}
    assert read_plain_json(json.dumps(body).encode()) == body
