"""JSON text for PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_text import first_changed, to_json


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, None, True, "é\u0000"]}, 2**70, "\ud800", {"deep": {"lone": "x\udfff"}}],
    ids=["plain", "large", "surrogate", "deep surrogate"],
)
def test_what_json_takes_is_taken_and_means_the_same(value: Any) -> None:
    """Fails without the slow way: one odd value from a receiver would break the batch with a
    TypeError of ours.
    """
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1.50", "123456789012345.5", "1e3", "1E-300", "9223372036854775807", "-9223372036854775808"],
)
def test_a_number_that_comes_back_as_it_was_is_fine(number: str) -> None:
    text = json.dumps({"0.12345678901234567890": ['a \\" quote, then 1e-400', "\\"]})
    text = text.replace("]", f", {number}]")
    json.loads(text)
    assert first_changed(text.encode()) is None


@pytest.mark.parametrize(
    "number",
    [
        "9007199254740993.5",
        "0.1234567890123456789",
        "1e-400",
        "1e400",
        "-1E400",
        "1e99999999999999999999999",
        "18446744073709551616",
        "9" * 5_000,
    ],
)
def test_a_number_that_a_double_changes_is_found(number: str) -> None:
    assert first_changed(f'{{"a": ["1", 2.5, {number}]}}'.encode()) == number[:40]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1))
def test_whatever_python_writes_comes_back(number: float) -> None:
    assert first_changed(json.dumps([number, str(number)]).encode()) is None
