"""The README's commands work when they are pasted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.running import ADMIN, Running

README = Path(__file__).parents[2] / "README.md"


def test_the_tour_works_when_pasted(pointsman: Running, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text().split("## A tour with curl")[1], re.DOTALL)
    script = "set -eu\n" + "\n".join(blocks)
    script = script.replace("http://127.0.0.1:8080", pointsman.url)
    script = script.replace("the password that make run printed", ADMIN[1]).replace(
        "admin@localhost", ADMIN[0]
    )

    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )

    assert ended.returncode == 0, ended.stderr
    for word in (
        '"signingSecret"',
        '"statusUrl"',
        '"finishedAt"',
        "answered 405",
        '"valueEncoding":"text"',
        r'"value":"{\"order\": 42}"',
    ):
        assert word in ended.stdout, f"{word} is missing in:\n{ended.stdout}"
