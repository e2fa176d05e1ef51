"""The callbacks that a call has come through."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from shared.via import HEADER, MOST, is_loop, of_delivery

A, B, C = (UUID(int=number) for number in (1, 2, 0xABC))


@pytest.mark.parametrize(
    ("value", "looped"),
    [
        ("", False),
        (str(B), False),
        (str(A), True),
        (f"{B}, {A}", True),
        (f"{B},{A},{C}", True),
        (str(A)[:-1], False),
        (f"x{A}", False),
        (",".join(["x"] * MOST), False),
        (",".join(["x"] * (MOST + 1)), True),
    ],
)
def test_a_call_that_has_been_here_or_has_come_too_far_is_a_loop(value: str, looped: bool) -> None:
    assert is_loop(value, A) is looped


def test_the_spelling_of_an_id_does_not_matter() -> None:
    assert is_loop(str(C).upper(), C)


def test_a_delivery_names_what_its_call_has_come_through_and_its_own_callback() -> None:
    others = [["content-type", "text/plain"], ["x-via", str(C)]]
    assert of_delivery(json.dumps(others), A) == str(A)
    came = [*others, [HEADER, f"{B}, {C}"]]
    assert of_delivery(json.dumps(came), A) == f"{B},{C},{A}"
    twice = [[HEADER, str(B)], [HEADER, str(C)]]
    assert of_delivery(json.dumps(twice), A) == f"{B},{C},{A}"


def test_what_is_no_id_does_not_travel_and_the_header_stays_short() -> None:
    """Fails when a stranger's header is passed on to receivers as it came."""
    given = [[HEADER, f"evil\u00e9, {B} x" + ", ".join(["y" * 99] * 99)]]
    assert of_delivery(json.dumps(given), A) == f"{B},{A}"
    long = [[HEADER, ",".join([str(B)] * 99)]]
    assert of_delivery(json.dumps(long), A).count(",") == MOST
