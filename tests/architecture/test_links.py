"""What the docs link to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def broken(page: Path, text: str) -> list[str]:
    """The links in a page's text that lead to no file, or to no heading of one."""
    found = []
    for link in LINK.findall(CODE.sub("", text)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        is_elsewhere = ELSEWHERE.match(link) is not None
        if not is_elsewhere and (not target.exists() or (anchor and anchor not in anchors(target))):
            found.append(link)
    return found


def anchors(page: Path) -> set[str]:
    """The names of its headings, as they stand in links."""
    words = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {"-".join(word.split(" ")) for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_the_check_sees_what_it_looks_for() -> None:
    page = ROOT / "docs/guarantees.md"
    text = "[a](no.md) [b](api.md#no) [c](#no) [d](api.md) [e](../README.md#run-it) [f](https://x.example/no)"
    assert broken(page, text) == ["no.md", "api.md#no", "#no"]
    assert sum(len(LINK.findall(one.read_text())) for one in PAGES) > 40
