"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "guarantees.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    """Fails when a test is renamed and the promise still points to its old name."""
    sources = {path.name: path.read_text() for path in TESTS.rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+(?:\.py)?", TEXT))
    files = {name for name in named if name.endswith(".py")}
    assert files <= sources.keys()
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(sources.values()), re.MULTILINE))
    assert len(named - files) > 15, "there are some"
    assert named - files <= defined
