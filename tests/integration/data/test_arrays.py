"""What shared.postgres.arrays.array() writes, PostgreSQL reads."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ids import new_id
from shared.postgres.arrays import array
from tests.world import World

ODD = [
    '"',
    "\\",
    '\\"',
    "{}",
    ",",
    "NULL",
    "null",
    "",
    " x ",
    "'",
    "%s",
    "é\U0001f600",
    "\x01\x7f",
    "\r\n\t",
    None,
]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ODD),
        ("bytea", [b"", b"\x00\\\"{},'\xff", bytes(range(256))]),
        ("int", [0, -1, 2**31 - 1, None]),
        ("float8", [0.0, -1.5, 1e300, None]),
        ("bool", [True, False, None]),
        ("uuid", [new_id(), new_id(), None]),
    ],
)
def test_an_array_comes_back_as_it_was_given(world: World, kind: str, values: list[Any]) -> None:
    """Fails when a value is not quoted: it would become another one, or several."""
    rows = world.ask(
        f"SELECT v FROM unnest(%s::{kind}[]) WITH ORDINALITY AS u(v, n) ORDER BY n", array(values)
    )
    assert [bytes(row[0]) if kind == "bytea" else row[0] for row in rows] == values
