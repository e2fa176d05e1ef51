"""The shell around Flask, with requests made of plain objects."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, Response, request

from api.deferred import Deferred, defer
from api.server import Shell
from shared.config import Settings

SETTINGS = Settings(max_body_bytes=1024, body_timeout_seconds=0.2, accept_timeout_seconds=0.5)


class Exchange:
    """One request as ASGI hands it over, its body in chunks with a pause before each, and the answer."""

    def __init__(self, chunks: list[bytes], pause_seconds: float, whole: bool) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
        ]
        self._messages.append({"type": "http.request", "body": b""} if whole else {"type": "http.disconnect"})
        self._pause_seconds = pause_seconds
        self.headers: dict[str, str] = {}
        self.status, self.body = 0, b""

    async def receive(self) -> MutableMapping[str, Any]:
        await asyncio.sleep(self._pause_seconds)
        return self._messages.pop(0)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


@pytest.fixture
def shell() -> Iterator[Shell]:
    app = Flask("test")
    release = threading.Event()

    @app.route("/<path:path>", methods=["GET", "POST", "HEAD"])
    def echo(path: str) -> Any:
        if path == "slow":
            release.wait(5)
        if path.startswith("deferred"):
            return defer(_deferred(path))
        return {
            "path": path,
            "body": request.get_data(as_text=True),
            "ip": request.remote_addr,
            "x": request.headers.get("X-Twice"),
            "query": request.query_string.decode(),
        }

    shell = Shell(app, SETTINGS)
    yield shell
    release.set()
    shell.stop()


def _deferred(path: str) -> Deferred:
    future: Future[str] = Future()
    if path == "deferred/done":
        future.set_result("done")

    def respond(outcome: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        return (
            (503, [], b"late") if isinstance(outcome, Exception) else (202, [("x-a", "b")], outcome.encode())
        )

    return Deferred(future, respond, 0.2)


def call(
    shell: Shell,
    method: str,
    path: str,
    chunks: list[bytes] | None = None,
    pause: float = 0.0,
    whole: bool = True,
    /,
    **headers: str,
) -> Exchange:
    exchange = Exchange(chunks or [], pause, whole)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "query_string": b"q=1",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.9", 4711),
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(shell(scope, exchange.receive, exchange.send))
    return exchange


def test_a_request_reaches_flask_as_it_came(shell: Shell) -> None:
    answer = call(shell, "POST", "/caf\u00e9", [b"a", b"b"], content_length="2", x_twice="1")
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "path": "caf\u00e9",
        "body": "ab",
        "ip": "10.0.0.9",
        "x": "1",
        "query": "q=1",
    }


@pytest.mark.parametrize(
    ("chunks", "headers"),
    [
        ([], {"content_length": "1025"}),
        ([b"x" * 600] * 2, {"transfer_encoding": "chunked"}),
        ([b"x" * 2000], {"content_length": "9"}),
    ],
)
def test_a_body_over_the_cap_is_413(shell: Shell, chunks: list[bytes], headers: dict[str, str]) -> None:
    answer = call(shell, "POST", "/x", chunks, 0.0, True, **headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("headers", [{"content_length": "9"}, {"transfer_encoding": "chunked"}])
def test_a_body_that_did_not_come_whole_is_never_handled(shell: Shell, headers: dict[str, str]) -> None:
    """Fails when the end of the connection is taken for the end of the body."""
    answer = call(shell, "POST", "/x", [b"part"], 0.0, False, **headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "body_incomplete")
    short = call(shell, "POST", "/x", [b"part"], 0.0, True, content_length="9")
    assert short.status == 400


def test_a_body_that_drips_is_408(shell: Shell) -> None:
    answer = call(shell, "POST", "/x", [b"x"] * 100, 0.05, content_length="100")
    assert (answer.status, json.loads(answer.body)["code"]) == (408, "body_too_slow")


def test_a_view_that_does_not_end_is_503_in_time(shell: Shell) -> None:
    answer = call(shell, "GET", "/slow")
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "unavailable")
    assert "retry-after" in answer.headers


def test_what_a_view_deferred_is_the_answer(shell: Shell) -> None:
    done = call(shell, "POST", "/deferred/done")
    assert (done.status, done.body, done.headers["x-a"]) == (202, b"done", "b")
    late = call(shell, "POST", "/deferred/never")
    assert (late.status, late.body) == (503, b"late")


def test_an_answer_to_head_has_no_body(shell: Shell) -> None:
    answer = call(shell, "HEAD", "/x")
    assert (answer.status, answer.body) == (200, b"")


def test_without_the_shell_a_view_waits_itself() -> None:
    app = Flask("test")

    @app.get("/<path:path>")
    def view(path: str) -> Response:
        return defer(_deferred(path))

    client = app.test_client()
    assert client.get("/deferred/done").status_code == 202
    assert client.get("/deferred/never").status_code == 503
