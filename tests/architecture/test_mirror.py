"""The unit tests mirror the tree: who looks at a module knows where its tests are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests/unit"
TESTS = sorted(UNIT.rglob("test_*.py"))


def home(test: Path) -> Path:
    """The folder of the code that a file of unit tests is about."""
    folder = test.parent.relative_to(UNIT)
    return ROOT / "tests" / folder if folder.parts[0] == "benchmarks" else ROOT / folder


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.relative_to(UNIT).as_posix())
def test_a_file_of_unit_tests_is_named_after_what_it_tests(test: Path) -> None:
    """A module, a part of what one does (test_module_part.py), or the package itself."""
    name = test.stem.removeprefix("test_")
    modules = {path.stem for path in home(test).glob("*.py")}
    is_of_a_module = any(name == module or name.startswith(f"{module}_") for module in modules)
    assert is_of_a_module or name == home(test).name


def test_there_are_many() -> None:
    assert len(TESTS) > 40
