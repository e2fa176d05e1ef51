"""The shell around Flask, with requests made of plain objects."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, Response, request

from api.deferred import Deferred, defer
from api.server import Shell
from shared.config import Settings

SETTINGS = Settings(max_body_bytes=1024, body_timeout_seconds=0.2, accept_timeout_seconds=0.5)


class Headers(list[tuple[str, str]]):
    """As RSGI gives them."""

    def get(self, name: str) -> str | None:
        return next((value for key, value in self if key == name), None)

    def items(self) -> list[tuple[str, str]]:
        return list(self)


class Scope:
    proto, http_version, server, client, scheme = "http", "1.1", "127.0.0.1:80", "10.0.0.9:4711", "http"

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method, self.path, self.query_string = method, path, "q=1"
        self.headers = Headers(headers.items())


class Protocol:
    """Sends the body in chunks, with a pause between them, and keeps the answer."""

    def __init__(self, chunks: list[bytes], pause_seconds: float) -> None:
        self._chunks, self._pause_seconds = chunks, pause_seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._send()

    async def _send(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(self._pause_seconds)
            yield chunk

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, dict(headers), body


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
    /,
    **headers: str,
) -> Protocol:
    protocol = Protocol(chunks or [], pause)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asyncio.run(shell.__rsgi__(Scope(method, path, named), protocol))
    return protocol


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
    answer = call(shell, "POST", "/x", chunks, 0.0, **headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


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
