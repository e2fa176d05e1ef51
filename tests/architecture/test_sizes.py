"""What a reader must hold in mind at once stays small: files, functions, and no circle of
modules.
"""

from __future__ import annotations

import ast
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "shared", "migrations", "deploy")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
WRITTEN_ONCE = ("migrations/versions/",)
"""A migration is a list of statements that is never changed again."""


def sources() -> dict[str, str]:
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    return {name: text for name, text in found.items() if not name.startswith(WRITTEN_ONCE)}


def long_functions(source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]


def circles(graph: grimp.ImportGraph) -> list[str]:
    """Modules from which a chain of imports leads back to themselves."""
    return sorted(
        module
        for module in graph.modules
        if any(
            graph.find_shortest_chain(imported, module)
            for imported in graph.find_modules_directly_imported_by(module)
        )
    )


def test_no_file_is_too_long() -> None:
    lengths = {name: text.count("\n") for name, text in sources().items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    found = {name: long_functions(text) for name, text in sources().items()}
    assert {name: functions for name, functions in found.items() if functions} == {}
    body = "\n".join(["    pass"] * MAX_FUNCTION_LINES)
    assert long_functions(f"async def f():\n{body}") == ["f"], "the check sees what it looks for"


def test_no_module_imports_itself_round_a_corner() -> None:
    graph = grimp.build_graph(*PACKAGES)
    assert circles(graph) == []
    graph.add_import(importer="shared.ids", imported="shared.redis.hints")
    graph.add_import(importer="shared.redis.hints", imported="shared.ids")
    assert circles(graph), "the check sees what it looks for"
