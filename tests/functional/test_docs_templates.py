"""What docs/templates.md says is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.templates.filters import FILTERS
from tests.subjects import rendered, subject

PAGE = (Path(__file__).parents[2] / "docs" / "templates.md").read_text()
_, EXAMPLES = PAGE.split("## Examples")
BODY = re.findall(r"```json\n(.*?)\n```", EXAMPLES, re.DOTALL)[0].encode()
ROWS = re.findall(r"^\| `(.+?)` \| `(.*?)` \|$", EXAMPLES.partition("## Conditions")[0], re.MULTILINE)


@pytest.mark.parametrize(("text", "result"), ROWS)
def test_an_example_comes_to_what_the_page_says(text: str, result: str) -> None:
    assert rendered(text.replace(r"\|", "|"), subject(BODY)) == result


def test_the_page_has_examples_and_every_filter() -> None:
    assert len(ROWS) > 10
    table = PAGE.split("## Tags and filters")[1].split("## Limits")[0]
    named = set(re.findall(r"`(\w+)`", table.partition("| filters | about |")[2].partition("\n\n")[0]))
    assert named == FILTERS.keys()
