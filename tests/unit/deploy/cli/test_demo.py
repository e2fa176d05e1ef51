"""The demo's table in a terminal of the usual 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deploy.cli.demo import table_of

COLUMNS = 80


def execution(step: int, name: str | None, **fields: Any) -> dict[str, Any]:
    told = {"type": "HTTP_POST", "status": "SUCCESS", "attempt": 1, "durationMs": 252, "error": None}
    return told | {"step": step, "actionName": name, "response": {"statusCode": 200}} | fields


def shown(*executions: dict[str, Any]) -> list[str]:
    trigger = {"id": "01a223b5-4af2-7919-b302-825e4fe0428f", "status": "SUCCESS", "executions": executions}
    output = io.StringIO()
    Console(width=COLUMNS, file=output).print(table_of(trigger, 1.234))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_each_step_of_the_demo_is_one_line_and_whole() -> None:
    stored = {"type": "STORE", "response": {"storedBytes": 123_456}, "durationMs": 12_345}
    title, head, *rows = shown(
        execution(0, "primary"),
        execution(1, "confirm", status="RUNNING", attempt=8, durationMs=None, response=None),
        execution(2, "keep", **stored),
    )
    assert title == "trigger 01a223b5-4af2-7919-b302-825e4fe0428f  SUCCESS  1.23 s"
    assert head.split() == ["step", "action", "type", "status", "attempt", "took", "result"]
    assert [row.split() for row in rows] == [
        ["1", "primary", "HTTP_POST", "✓", "SUCCESS", "1", "252", "ms", "HTTP", "200"],
        ["2", "confirm", "HTTP_POST", "▶", "RUNNING", "8"],
        ["3", "keep", "STORE", "✓", "SUCCESS", "1", "12345", "ms", "123456", "bytes", "stored"],
    ]


@pytest.mark.parametrize("name", ["audit", "n" * 200, "a name of many words " * 9, "two\nlines", None])
def test_what_is_too_long_is_cut_at_the_end_of_its_line(name: str | None) -> None:
    """An error may hold anything, square brackets too: they are no markup."""
    error = "timeout: [bold]nothing[/bold] came\nwithin 5,000 ms, although much was hoped for " * 3
    failed = execution(3, name, status="FAILED", error=error, response=None)
    _, _, row, last = shown(failed, execution(4, "after"))
    assert len(row) <= COLUMNS
    assert row.split()[0] == "4"
    assert "FAILED" in row
    assert "timeout: [bold]" in row
    assert row.endswith("…")
    assert last.split()[:2] == ["5", "after"]
