"""No test passes by trying again or by looking away.

What no reader of code can see, a bound that nothing exceeds, is shown by damage on purpose: see
tests/README.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TOO_WIDE = {"TimeoutError", "AssertionError", "Exception", "BaseException", "TimeoutExpired"}
"""What a test must not pass over in silence: a wait that was too long, a failure, anything."""


def names(node: ast.expr | None) -> set[str]:
    """The last parts of the names in an expression: of `(asyncio.TimeoutError, OSError)` both."""
    if node is None:
        return {"BaseException"}
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def does_nothing(body: list[ast.stmt]) -> bool:
    return all(isinstance(one, ast.Pass | ast.Continue) or is_ellipsis(one) for one in body)


def is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def dishonesties(source: str) -> Iterator[str]:
    """Where a source swallows what it must not, or a test tries again until it passes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"{node.lineno}: a bare except"
            elif does_nothing(node.body) and names(node.type) & TOO_WIDE:
                yield f"{node.lineno}: swallows {ast.unparse(node.type)}"
        if isinstance(node, ast.Call) and "suppress" in names(node.func):
            swallowed = {name for one in node.args for name in names(one)} & TOO_WIDE
            yield from (f"{node.lineno}: suppresses {name}" for name in sorted(swallowed))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for loop in (one for one in node.body if isinstance(one, ast.For | ast.While)):
                branches = [one for one in ast.walk(loop) if isinstance(one, ast.If)]
                if any(isinstance(one, ast.Return) for branch in branches for one in ast.walk(branch)):
                    yield f"{loop.lineno}: a loop that ends {node.name} when it has passed once"
        if isinstance(node, ast.Assert) and re.match(r"min\(.*\) <=? ", ast.unparse(node.test)):
            yield f"{node.lineno}: the best of several"


def test_no_test_swallows_a_failure_or_tries_again_until_it_passes() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{what}"
        for path in sorted(TESTS.rglob("*.py"))
        for what in dishonesties(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept:\n    g()",
        "try:\n    f()\nexcept TimeoutError:\n    pass",
        "for _ in x:\n    try:\n        f()\n    except (OSError, asyncio.TimeoutError):\n        continue",
        "with contextlib.suppress(TimeoutError):\n    f()",
        "with suppress(OSError, Exception):\n    f()",
        "def test_x():\n    for _ in range(4):\n        if f() < 2:\n            return\n    raise AssertionError",
        "assert min(took) < 0.5",
    ],
)
def test_each_of_these_is_found(source: str) -> None:
    assert len(list(dishonesties(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept TimeoutError:\n    refused += 1",
        "with suppress(ProcessLookupError):\n    f()",
        "def test_x():\n    def g():\n        for _ in range(4):\n            return\n    g()",
        "assert 2 <= min(waited) <= max(waited) < 10",
    ],
)
def test_none_of_these_is(source: str) -> None:
    assert list(dishonesties(source)) == []
