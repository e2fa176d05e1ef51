"""One class name, one thing: who reads a name knows which class is meant, wherever it stands."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "shared", "deploy", "migrations")


def classes(source: str) -> list[str]:
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]


def doubles(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names that more than one file defines at its top level, with these files."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path, source in sources:
        for name in classes(source):
            homes[name].append(path)
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_no_class_name_is_given_twice() -> None:
    """Fails when two classes have one name, such as a table's row and what a worker holds of it."""
    sources = [
        (path.relative_to(ROOT).as_posix(), path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    assert doubles(sources) == {}
    assert doubles([("a.py", "class Run: ..."), ("b.py", "class Run: ...")]) == {"Run": ["a.py", "b.py"]}
    assert sum(len(classes(source)) for _, source in sources) > 100, "the check sees what it looks for"
