"""The unit tests mirror the tree: who looks at a module knows where its tests are.

Not every module has unit tests of its own; what needs a server has them in tests/integration.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests/unit"
TESTS = sorted(UNIT.rglob("test_*.py"))


def fault(test: Path) -> str | None:
    """Why a file of unit tests is not where, or named as, the mirror wants it."""
    folder = test.parent.relative_to(UNIT)
    if not folder.parts:
        return "Put it into the folder of the package that it tests, as tests/unit/worker/engine."
    home = ROOT / "tests" / folder if folder.parts[0] == "benchmarks" else ROOT / folder
    name = test.stem.removeprefix("test_")
    modules = {path.stem for path in home.glob("*.py")}
    # a module, a part of what one does (test_module_part.py), or the package itself
    if name == home.name or any(name == module or name.startswith(f"{module}_") for module in modules):
        return None
    return (
        f"Name it after a module in {home.relative_to(ROOT)}/: test_<module>.py or test_<module>_<part>.py."
    )


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.relative_to(UNIT).as_posix())
def test_a_file_of_unit_tests_is_named_after_what_it_tests(test: Path) -> None:
    found = fault(test)
    assert found is None, found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("test_ids.py", "the folder of the package"),
        ("worker/engine/test_nothing.py", "a module in worker/engine/"),
        ("worker/nowhere/test_run.py", "a module in worker/nowhere/"),
    ],
)
def test_what_is_elsewhere_is_told_where_it_belongs(path: str, said: str) -> None:
    assert said in (fault(UNIT / path) or "")


def test_there_are_many() -> None:
    assert len(TESTS) > 40
