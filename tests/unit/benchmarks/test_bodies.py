"""The bodies of the load."""

from __future__ import annotations

import json
import zlib

import pytest

from tests.benchmarks.bodies import COUNT, SMALL_BYTES, make_bodies


@pytest.mark.parametrize("length", [SMALL_BYTES, 1024, 64 * 1024])
def test_bodies_are_different_json_of_about_their_length(length: int) -> None:
    bodies = make_bodies(length)
    assert len(set(bodies)) == len(bodies) == COUNT
    for body in bodies:
        assert isinstance(json.loads(body), dict)
        assert length * 0.9 < len(body) <= length
        assert "\n" not in body


def test_bodies_are_the_same_in_every_run() -> None:
    assert make_bodies(1024) == make_bodies(1024)


def test_large_bodies_hold_nothing_that_repeats() -> None:
    """Base64 takes eight bits for six, so that deflate gains a quarter; of one letter it would
    leave nothing.
    """
    body = make_bodies(16 * 1024)[0].encode()
    assert len(zlib.compress(body)) > 0.7 * len(body)
