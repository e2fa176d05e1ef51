"""What every file of the product keeps to."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shared import action_types
from worker import actions

ROOT = Path(__file__).parents[2]
PRODUCT = ("api", "worker", "shared", "migrations", "deploy")
FILES = sorted(path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py"))


def test_imports_run_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_keeps_true(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{path} has no docstring"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.relative_to(ROOT).parts[0] in ("api", "worker", "shared")],
    ids=lambda p: p.name,
)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if path == ROOT / "shared" / "config.py":
        return
    read = [
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    assert not set(read) & {"environ", "getenv"}


def test_each_action_type_has_both_halves() -> None:
    assert action_types.KINDS.keys() == actions.KINDS.keys()
    for kind in action_types.KINDS:
        for name in ("Config", "redact", "summarize"):
            assert hasattr(action_types.KINDS[kind], name), f"{kind} has no {name}"
        for name in ("prepare", "perform", "classify"):
            assert hasattr(actions.KINDS[kind], name), f"{kind} has no {name}"
