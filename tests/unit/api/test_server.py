"""The shell around Flask, with requests made of plain objects."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from flask import Flask, request
from structlog.testing import capture_logs

from api import environ, sending, server
from api.awaited import Answer, awaited
from api.budget import Budget
from api.server import Shell
from shared.config import Settings
from shared.errors import Conflict, Unavailable

SETTINGS = Settings(max_body_bytes=1024, body_timeout_seconds=0.2, accept_timeout_seconds=0.5)


class Exchange:
    """One request as ASGI hands it over, its body in chunks with a pause before each, and the
    answer.
    """

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
        if path == "t/later":
            return awaited(_later(request.get_data()))
        if path == "t/refused":
            return awaited(_refused())
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


async def _later(body: bytes) -> Answer:
    await asyncio.sleep(0.01)
    return 202, [("x-a", "b")], body


async def _refused() -> Answer:
    await asyncio.sleep(0)
    raise Conflict("taken")


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
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = scope_of(method, path, named)
    asyncio.run(shell(scope, exchange.receive, exchange.send))
    return exchange


def scope_of(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "query_string": b"q=1",
        "headers": headers,
        "client": ("10.0.0.9", 4711),
        "server": ("127.0.0.1", 80),
    }


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


def test_what_a_view_left_behind_is_awaited_for_the_answer(shell: Shell) -> None:
    done = call(shell, "POST", "/t/later", [b"abc"], 0.0, True, content_length="3")
    assert (done.status, done.body, done.headers["x-a"]) == (202, b"abc", "b")
    refused = call(shell, "POST", "/t/refused")
    assert (refused.status, json.loads(refused.body)["code"]) == (409, "conflict")


def test_the_loop_serves_others_while_an_answer_is_awaited() -> None:
    """Fails when one answer is awaited at a time: the first would wait for the second for ever."""
    both_are_here = asyncio.Barrier(2)

    async def meet() -> Answer:
        await both_are_here.wait()
        return 202, [], b""

    app = Flask("test")
    app.add_url_rule("/t/x", "meet", lambda: awaited(meet()))
    shell, exchanges = Shell(app, SETTINGS), [Exchange([], 0.0, True) for _ in range(2)]

    async def together() -> None:
        calls = (shell(scope_of("GET", "/t/x", []), one.receive, one.send) for one in exchanges)
        await asyncio.wait_for(asyncio.gather(*calls), 5)

    asyncio.run(together())
    shell.stop()
    assert [one.status for one in exchanges] == [202, 202]


def test_an_answer_to_head_has_no_body(shell: Shell) -> None:
    answer = call(shell, "HEAD", "/x")
    assert (answer.status, answer.body) == (200, b"")


def test_an_answer_that_was_awaited_has_no_body_for_head_either(shell: Shell) -> None:
    answer = call(shell, "HEAD", "/t/later", [b"abc"], 0.0, True, content_length="3")
    assert (answer.status, answer.body, answer.headers["x-a"]) == (202, b"", "b")


def test_who_has_a_request_in_hand_is_known() -> None:
    """Fails when a caller that waits for its answer is taken for a head that does not come."""
    app, seen = Flask("test"), list[set[tuple[str, str]]]()

    async def look() -> Answer:
        seen.append(set(looking.in_hand))
        return 200, [], b""

    app.add_url_rule("/t/x", "look", lambda: awaited(look()))
    looking = Shell(app, SETTINGS)
    call(looking, "GET", "/t/x")
    call(looking, "POST", "/t/x", [b"part"], 0.0, False, content_length="9")
    looking.stop()
    assert seen == [{scope_of("GET", "/t/x", [])["client"]}]
    assert looking.in_hand == set(), "also after a request that was refused"


@pytest.mark.parametrize(("path", "status"), [("/x", 200), ("/t/later", 202), ("/t/refused", 409)])
def test_a_shell_that_leaves_ends_each_connection_with_its_answer(
    shell: Shell, path: str, status: int
) -> None:
    stays = call(shell, "POST", path)
    assert (stays.status, "connection" in stays.headers) == (status, False)
    shell.is_leaving = True
    last = call(shell, "POST", path)
    assert (last.status, last.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("headers", [{"content_length": "1024"}, {"transfer_encoding": "chunked"}])
def test_a_body_of_exactly_the_cap_is_taken_whole(shell: Shell, headers: dict[str, str]) -> None:
    """Fails when Flask is shown a framing that the shell has undone: it takes a chunked body for an
    empty one.
    """
    answer = call(shell, "POST", "/x", [b"x" * 512] * 2, 0.0, True, **headers)
    assert (answer.status, len(json.loads(answer.body)["body"])) == (200, 1024)


@pytest.mark.parametrize("headers", [{}, {"content_length": "0"}])
def test_a_request_without_a_body_does_not_wait_for_one(shell: Shell, headers: dict[str, str]) -> None:
    """Fails when the end of a body is awaited that was never announced: each GET would cost a
    408.
    """
    answer = call(shell, "GET", "/x", [], 30.0, True, **headers)
    assert (answer.status, json.loads(answer.body)["body"]) == (200, "")


def test_one_budget_holds_for_all_bodies_until_their_answers() -> None:
    """Fails when bodies are counted while they are read only: who waits holds one, too."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def later() -> Answer:
        begun.set()
        await go_on.wait()
        return 202, [], b""

    app = Flask("test")
    app.add_url_rule("/t/x", "later", lambda: awaited(later()), methods=["POST"])
    shell = Shell(app, SETTINGS)
    shell._bodies = Budget("bodies", 1_000)

    async def story() -> list[int]:
        held, refused, again = (Exchange([b"x" * 600], 0.0, True) for _ in range(3))
        scope = scope_of("POST", "/t/x", [(b"content-length", b"600")])
        waiting = asyncio.create_task(shell(scope, held.receive, held.send))
        await begun.wait()
        async with asyncio.timeout(5):
            await shell(scope, refused.receive, refused.send)
        go_on.set()
        await waiting
        await shell(scope, again.receive, again.send)
        return [held.status, refused.status, again.status]

    assert asyncio.run(story()) == [202, 503, 202]
    shell.stop()


@pytest.mark.parametrize("headers", [{"content_length": "600"}, {"transfer_encoding": "chunked"}])
def test_a_body_that_was_refused_in_its_middle_ends_its_connection(headers: dict[str, str]) -> None:
    """Fails when the rest of the body is taken for the next request."""
    shell = Shell(Flask("test"), SETTINGS)
    shell._bodies = Budget("bodies", 500)
    answer = call(shell, "POST", "/t/x", [b"x" * 300] * 2, 0.0, True, **headers)
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    shell.stop()


class Slowly(Exchange):
    """A client that takes an answer as it is told to."""

    def __init__(self, takes: asyncio.Event) -> None:
        super().__init__([], 0.0, True)
        self._takes = takes
        self.chunks: list[int] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "http.response.body":
            self.chunks.append(len(message["body"]))
            await self._takes.wait()


@pytest.mark.parametrize("size", [0, 1, 1_000, 1_001, 2_000, 2_500])
def test_a_long_answer_is_sent_as_its_client_takes_it(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sending, "CHUNK_BYTES", 1_000)
    app = Flask("test")
    app.add_url_rule("/x", "x", lambda: b"ab" * (size // 2) + b"c" * (size % 2))
    shell = Shell(app, SETTINGS)
    takes = asyncio.Event()

    async def story() -> Slowly:
        client = Slowly(takes)
        sending = asyncio.create_task(shell(scope_of("GET", "/x", []), client.receive, client.send))
        while not client.chunks:
            await asyncio.sleep(0.01)
        assert len(client.chunks) == 1
        assert len(shell.in_hand) == 1
        takes.set()
        await sending
        return client

    client = asyncio.run(story())
    assert client.body == b"ab" * (size // 2) + b"c" * (size % 2)
    assert max(client.chunks) <= 1_000
    assert client.headers["content-length"] == str(size)
    assert not shell.in_hand
    shell.stop()


def test_files_have_a_budget_until_their_clients_have_taken_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a file is counted while it is read only: who takes it slowly holds it, too."""
    monkeypatch.setattr(server, "MAX_FILE_BYTES", 1_000)
    app = Flask("test")

    @app.get("/x")
    def file() -> bytes:
        request.environ[environ.FILE].take(600)
        return b"x" * 600

    shell = Shell(app, SETTINGS)
    takes = asyncio.Event()

    async def story() -> list[int]:
        slow, refused, again = Slowly(takes), Exchange([], 0.0, True), Exchange([], 0.0, True)
        scope = scope_of("GET", "/x", [])
        sending = asyncio.create_task(shell(scope, slow.receive, slow.send))
        while not slow.chunks:
            await asyncio.sleep(0.01)
        await shell(scope, refused.receive, refused.send)
        takes.set()
        await sending
        await shell(scope, again.receive, again.send)
        return [slow.status, refused.status, again.status]

    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert asyncio.run(story()) == [200, 503, 200]
    shell.stop()


def test_a_free_port_is_drawn_before_anybody_is_told_it() -> None:
    """Fails when slow heads and idle connections are looked for on port 0."""
    drawn = server.with_port(Settings(port=0))
    assert drawn.port > 0
    assert drawn.base_url.endswith(f":{drawn.port}")
    assert server.with_port(Settings(port=81)).port == 81


def test_headers_given_twice_are_joined(shell: Shell) -> None:
    exchange = Exchange([], 0.0, True)
    twice = [(b"x-twice", b"1"), (b"x-other", b"o"), (b"x-twice", "caf\u00e9".encode("latin-1"))]
    asyncio.run(shell(scope_of("GET", "/x", twice), exchange.receive, exchange.send))
    assert json.loads(exchange.body)["x"] == "1,caf\u00e9"


def test_a_path_that_is_no_text_does_not_break_the_shell(shell: Shell) -> None:
    answer = call(shell, "GET", "/\udce9")
    assert answer.status == 200
    assert json.loads(answer.body)["path"] == "\ufffd"


def test_what_is_not_http_is_left_alone(shell: Shell) -> None:
    exchange = Exchange([], 0.0, True)
    asyncio.run(shell({"type": "lifespan"}, exchange.receive, exchange.send))
    assert exchange.status == 0


@pytest.mark.parametrize("path", ["/broken", "/t/unanswerable"])
def test_a_fault_of_ours_is_a_500_that_shows_nothing(path: str) -> None:
    """The application itself fails here, outside Flask's own error handling."""
    app = Flask("test")
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/broken")
    def broken() -> Any:
        raise RuntimeError("canary-hunter2")

    @app.get("/t/unanswerable")
    def unanswerable() -> Any:
        async def answer() -> Answer:
            raise RuntimeError("canary-hunter2")

        return awaited(answer())

    shell = Shell(app, SETTINGS)
    with capture_logs() as logged:
        answer = call(shell, "GET", path)
    shell.stop()
    document = json.loads(answer.body)
    assert (answer.status, document["code"]) == (500, "internal_error")
    assert document["requestId"] == answer.headers["x-request-id"]
    assert b"canary" not in answer.body
    assert [line["event"] for line in logged][-1:] == ["request_broken"]


@pytest.mark.parametrize(
    ("path", "on_loop"), [("/t/x", True), ("/c/x", True), ("/tx", False), ("/api/v1/x", False)]
)
def test_the_views_of_trigger_urls_run_on_the_loop_and_all_others_in_threads(
    path: str, on_loop: bool
) -> None:
    """What others wait for must hold up nobody."""
    app = Flask("test")

    @app.post("/<path:name>")
    def view(name: str) -> dict[str, Any]:
        return {"onLoop": threading.current_thread() is threading.main_thread()}

    shell = Shell(app, SETTINGS)
    answer = call(shell, "POST", path)
    shell.stop()
    assert json.loads(answer.body) == {"onLoop": on_loop}


class Crowd:
    """A shell with one thread, which is busy until it is freed."""

    def __init__(self) -> None:
        self.free, self.abandoned, self.handled = threading.Event(), threading.Event(), list[str]()
        app = Flask("test")

        @app.get("/<name>")
        def view(name: str) -> str:
            self.handled.append(name)
            if name == "busy":
                self.free.wait(10)
                try:
                    request.environ[environ.PATIENCE].hold()
                except Unavailable:
                    self.abandoned.set()
            return name

        self.shell = Shell(app, SETTINGS.model_copy(update={"api_threads": 1}))


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.free.set()
    crowd.shell.stop()


def test_a_view_learns_that_its_caller_has_gone(crowd: Crowd) -> None:
    """Fails when a view that got its thread back too late would record what was answered with
    503.
    """
    assert call(crowd.shell, "GET", "/busy").status == 503
    crowd.free.set()
    assert crowd.abandoned.wait(5)


def test_a_request_that_waited_in_vain_for_a_thread_is_never_handled(crowd: Crowd) -> None:
    assert call(crowd.shell, "GET", "/busy").status == 503
    assert call(crowd.shell, "GET", "/queued").status == 503
    crowd.free.set()
    assert call(crowd.shell, "GET", "/later").status == 200
    assert crowd.handled == ["busy", "later"]


def test_beyond_the_queue_the_answer_is_503_at_once(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd.shell._threads, "_max_calls", 3)

    async def rush() -> list[Exchange]:
        first = [Exchange([], 0.0, True) for _ in range(3)]
        tasks = [
            asyncio.create_task(crowd.shell(scope_of("GET", "/busy", []), one.receive, one.send))
            for one in first
        ]
        await asyncio.sleep(0)  # each has joined the queue
        refused = Exchange([], 0.0, True)
        await crowd.shell(scope_of("GET", "/refused", []), refused.receive, refused.send)
        assert not any(task.done() for task in tasks), "it did not wait for them"
        crowd.free.set()
        await asyncio.gather(*tasks)
        return [refused, *first]

    refused, *first = asyncio.run(rush())
    assert (refused.status, json.loads(refused.body)["code"]) == (503, "unavailable")
    assert [one.status for one in first] == [200, 200, 200]
    assert "refused" not in crowd.handled
    assert call(crowd.shell, "GET", "/after").status == 200, "the queue empties again"


def test_a_loop_that_has_died_ends_the_process_after_readyz_could_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when an API process lives on without its recorder: every call would be a 503 for
    ever.
    """
    monkeypatch.setattr(server, "WATCH_SECONDS", 0.02)
    seen: list[str | None] = [None, None, "record", "record"]
    asked = iter(seen)

    class Services:
        @staticmethod
        def dead_thread() -> str | None:
            return next(asked)

    began = time.monotonic()
    assert asyncio.run(server._dead_thread(Services())) == "record"  # type: ignore[arg-type]
    assert time.monotonic() - began > 3 * 0.02 * 0.9, "a moment more, in which /readyz says so"
