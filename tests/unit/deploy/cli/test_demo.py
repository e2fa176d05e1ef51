"""The demo's table in a terminal of the usual 80 columns."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from deploy.cli.demo import fire_and_watch, table_of
from shared.errors import StartupError

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


ACCEPTED = httpx.Response(202, json={"triggerId": "01a223b5-4af2-7919-b302-825e4fe0428f"})


def refused(status: int, hint: str) -> Callable[[], httpx.Response]:
    problem = {"detail": f"What {status} means.", "hint": hint}
    return lambda: httpx.Response(status, json=problem)


def cut() -> httpx.Response:
    raise httpx.RemoteProtocolError("Server disconnected")


def fire(first: Callable[[], httpx.Response], then: Callable[[], httpx.Response]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return first() if request.method == "POST" else then()

    with httpx.Client(base_url="http://x", transport=httpx.MockTransport(answer)) as client:
        fire_and_watch(client, Console(file=io.StringIO()), "http://x/t/token", 1, 1.0)


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (cut, cut, "does not answer"),
        (lambda: ACCEPTED, cut, "does not answer"),
        (lambda: ACCEPTED, refused(401, "Use another key."), "What 401 means"),
        (lambda: ACCEPTED, refused(503, "Try again."), "What 503 means"),
        (lambda: ACCEPTED, lambda: httpx.Response(502, text="<html>"), "502"),
        (lambda: ACCEPTED, lambda: httpx.Response(200, text="<html>"), "JSON"),
        (lambda: httpx.Response(202, text="<html>"), cut, "JSON"),
        (refused(404, "Look at the URL."), cut, "What 404 means"),
        (lambda: httpx.Response(502, text="<html>"), cut, "502"),
    ],
)
def test_whatever_the_api_does_meanwhile_is_a_sentence(
    first: Callable[[], httpx.Response], then: Callable[[], httpx.Response], said: str
) -> None:
    """Fails with a traceback, when `make run` is stopped or the key revoked while it watches."""
    with pytest.raises(StartupError, match=said):
        fire(first, then)


def test_a_url_that_cannot_be_called_is_a_sentence() -> None:
    with (
        httpx.Client(base_url="http://x") as client,
        pytest.raises(StartupError, match="does not answer"),
    ):
        fire_and_watch(client, Console(file=io.StringIO()), "nothing://x", 1, 1.0)
