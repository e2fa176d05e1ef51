"""`make help` lists every command, and what the docs tell people to type exists."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
COLOUR = re.compile(r"\x1b\[\d*m")


def helped() -> list[str]:
    # a make inside `make test` would say which folder it enters
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return COLOUR.sub("", shown.stdout).splitlines()


def commands() -> set[str]:
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    return set(phony[1].split())


def test_every_command_is_shown_with_what_it_does() -> None:
    assert {line.split()[1] for line in helped()} == commands()
    assert len(commands()) > 10, "the check sees what it looks for"


def test_what_commands_do_stands_in_one_column() -> None:
    starts = {re.match(r" +make [a-z0-9-]+ +", line).end() for line in helped()}  # type: ignore[union-attr]
    assert len(starts) == 1
    widest = max(map(len, commands()))
    assert starts == {len("  make ") + widest + 1}


def test_the_docs_name_only_commands_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert named - commands() == set()
    assert len(named) > 5, "the check sees what it looks for"
