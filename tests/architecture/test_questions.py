"""The questions of a newcomer in docs/architecture.md: what their answers name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
SECTION = PAGE.split("\n## Twelve questions\n", 1)[1].split("\n## ", 1)[0]
QUESTIONS = re.split(r"\n\d+\. ", SECTION)[1:]
NAMED_FILE = re.compile(r"`([\w/]+\.py)`")
NAMED_FUNCTION = re.compile(r"`([\w.]+)\(\)`")


def functions_of(path: str) -> set[str]:
    """The functions of a file; methods with their class: `Engine.stop`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_there_are_twelve_of_them() -> None:
    assert len(QUESTIONS) == 12
    assert all(re.match(r"\*\*[^*]+\?\*\* ", question) for question in QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda text: re.sub(r"\W+", "-", text.split("?")[0][2:]))
def test_an_answer_names_functions_that_are_where_it_says(question: str) -> None:
    """Fails when a function is moved or renamed and the page is not."""
    files, functions = set(NAMED_FILE.findall(question)), set(NAMED_FUNCTION.findall(question))
    assert 1 <= len(files) <= 2, "an answer is within two files"
    defined = {path: functions_of(path) for path in files}
    assert functions
    assert functions <= set().union(*defined.values())
    assert all(defined[path] & functions for path in files), (
        "each file that is named has something named in it"
    )
