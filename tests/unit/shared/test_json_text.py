"""JSON text for PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.json_text import to_json


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
