"""docs/guarantees.md and tests/README.md name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCES = {path.relative_to(TESTS).as_posix(): path.read_text() for path in TESTS.rglob("test_*.py")}
PROMISES = (TESTS.parent / "docs" / "guarantees.md").read_text()
DAMAGES = (TESTS / "README.md").read_text()


def defined(source: str) -> set[str]:
    return set(re.findall(r"^ *(?:async )?def (test_\w+)", source, re.MULTILINE))


def unknown(text: str) -> list[str]:
    """What a text names that is not there: a file, a test, or a test in the file that it names."""
    everywhere = set().union(*map(defined, SOURCES.values()))
    found = []
    for path, name in re.findall(r"\b((?:\w+/)*test_\w+\.py)?(?:::)?(test_\w+\b(?!\.py))?", text):
        homes = [source for known, source in SOURCES.items() if f"/{known}".endswith(f"/{path}")]
        if path and not homes:
            found.append(path)
        elif name and name not in (set().union(*map(defined, homes)) if path else everywhere):
            found.append(f"{path}::{name}")
    return found


@pytest.mark.parametrize(("text", "least"), [(PROMISES, 30), (DAMAGES, 16)], ids=["guarantees", "damages"])
def test_every_test_that_is_named_exists(text: str, least: int) -> None:
    """Fails when a test is renamed and the promise still points to its old name."""
    assert unknown(text.replace("tests/", "")) == []
    assert len(set(re.findall(r"\btest_\w+\b(?!\.py)", text))) >= least, "there are some"


@pytest.mark.parametrize(
    "text",
    [
        "`test_no_such.py`",
        "`test_no_such_test`",
        "`test_kills.py::test_the_worker_killed_at_a_commit`",
        "`unit/test_kills.py`",
    ],
)
def test_a_name_that_is_wrong_is_found(text: str) -> None:
    assert len(unknown(text)) == 1


def test_a_name_that_is_right_is_not() -> None:
    text = "`faults/test_kills.py`, `test_crash_points.py::test_the_worker_killed_at_a_commit[claim]`"
    assert unknown(text) == []
