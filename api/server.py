"""The shell around Flask: a small ASGI application under Granian.

Invariants:

- A request's body is read off the wire here, asynchronously, under a deadline (408) and a cap (413,
  with Content-Length or without), so that a slow or endless client holds no thread.
- A body that did not come whole is never handled (400).
- One budget of bytes holds for all bodies, from the first byte to the answer, and another for the
  files that are given out; beyond it: 503. An answer of more than a chunk is sent as its client
  takes it.
- The view of a trigger URL runs here, on the loop, since it waits for nothing. What follows is a
  coroutine with a deadline of its own, awaited here (api/awaited.py).
- Everything else runs Flask in a bounded pool of threads, beyond whose queue the answer is 503 at
  once. A call that has no answer in time (`management_timeout_seconds`, for others
  `accept_timeout_seconds`) gets 503, and its thread commits nothing any more (api/patience.py).
- From a stop on, each answer ends its connection (api/leaving.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any
from uuid import uuid4
from wsgiref.types import StartResponse

import structlog
import uvloop
from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from api import environ as keys
from api.app import make_app
from api.awaited import Answer
from api.budget import Budget, Held
from api.caller import Caller
from api.connections import Client, SlowHeads, StalledReaders
from api.deadlines import Deadlines
from api.leaving import STOP_SECONDS, answer_the_last, let_clients_go, let_stalled_go
from api.lines import Flow
from api.patience import Patience, outcome_unknown
from api.problems import of_error, translate
from api.sending import Send, send_flow, send_whole
from api.services import Services, make_services
from api.threads import Threads
from api.urls import LOOKS, TRIGGER_PREFIXES
from shared import metrics
from shared.config import Settings
from shared.errors import Incomplete, PointsmanError, TooLarge, TooSlow, Unavailable
from shared.process import begin
from shared.threads import EX_SOFTWARE

MANAGEMENT_PREFIX = "/api/"

# Of bodies, from their first byte to their answer, beside two of the largest. With the copies on
# their way to PostgreSQL it is twice as much again.
MAX_HELD_BYTES = 20 * 1024 * 1024

# Of these, for requests that hold little.
FOR_LITTLE_BODIES = 6 * 1024 * 1024

# Of recorded bodies and stored values, until their clients have taken them. Who takes them slowly
# keeps nobody from calling.
MAX_FILE_BYTES = 128 * 1024 * 1024

# Requests that a thread of Flask's has or that wait for one.
MAX_FLASK_CALLS = 2_000

# How often a loop that has died is looked for.
WATCH_SECONDS = 1.0

# How often it is tried whether the port listens yet.
LISTENS_SECONDS = 0.02

# Longer than any call of the database may take: what was begun has ended by then.
COMMIT_SECONDS = 6.0

BODY_HEADERS = (b"content-length", b"transfer-encoding")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

log = structlog.get_logger("server")


class Shell:
    """Runs a Flask application for Granian."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._threads = Threads("flask", settings.api_threads, MAX_FLASK_CALLS)
        self._bodies = Budget("bodies", MAX_HELD_BYTES + 2 * settings.max_body_bytes, FOR_LITTLE_BODIES)
        self._files = Budget("files", MAX_FILE_BYTES)
        self._reading = Deadlines(settings.body_timeout_seconds)
        self.in_hand: set[Client] = set()
        self.is_leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        client, body, file = scope["client"], Held(self._bodies), Held(self._files)
        self.in_hand.add(client)
        try:
            status, headers, answer = await self._handle(scope, receive, body, file)
            body.free()
            if isinstance(answer, Flow):
                await send_flow(send, status, headers, answer)
            else:
                await send_whole(send, status, headers, b"" if scope["method"] == "HEAD" else answer)
        finally:
            self.in_hand.discard(client)
            body.free()
            file.free()

    async def _handle(self, scope: Scope, receive: Receive, held: Held, file: Held) -> Answer:
        """The answer, whatever happens. held: for the body; file: for one that is given out."""
        request_id, is_read = uuid4().hex, False
        try:
            body = await self._body_of(scope, receive, held)
            is_read = True
            coroutines, answered = await self._view(scope, body, request_id, file, Caller(receive, held))
            del body  # whoever waits does so without it
            status, headers, answer = await coroutines[0] if coroutines else answered
        except Exception as error:  # noqa: BLE001 - none is swallowed: each becomes an answer
            status, headers, answer = of_error(translate(error, scope["path"]), request_id)
            _forget_frames(error)
        if not is_read or self.is_leaving:  # the rest of the body would be taken for a request
            headers.append(("connection", "close"))
        return status, headers, answer

    async def _body_of(self, scope: Scope, receive: Receive, held: Held) -> bytes:
        try:
            return await self._read_body(scope, receive, held)
        except PointsmanError as error:
            if scope["path"].startswith(TRIGGER_PREFIXES) and scope["method"] not in LOOKS:
                metrics.triggers_refused.labels(error.code).inc()
            raise

    async def _read_body(self, scope: Scope, receive: Receive, held: Held) -> bytes:
        limit = self._settings.max_body_bytes
        headers = {name: value for name, value in scope["headers"] if name in BODY_HEADERS}
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise TooLarge(f"The body has {int(declared)} bytes; {limit} are allowed.")
        if not headers or declared == b"0":
            return b""
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._reading.limit():
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Incomplete("The connection ended before the whole body had come.")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge(f"The body has more than {limit} bytes.")
                    held.take(len(chunk))
                    chunks.append(chunk)
                    more = message.get("more_body", False)
            if declared.isdigit() and size < int(declared):
                raise Incomplete(f"{size} of {int(declared)} bytes had come when the body ended.")
            return b"".join(chunks)
        except TimeoutError:
            raise TooSlow(
                f"The body did not arrive within {self._settings.body_timeout_seconds:g} seconds."
            ) from None

    async def _view(
        self, scope: Scope, body: bytes, request_id: str, file: Held, caller: Caller
    ) -> tuple[list[Coroutine[Any, Any, Answer]], Answer]:
        """What Flask's view answers, or a coroutine that makes the answer instead."""
        coroutines: list[Coroutine[Any, Any, Answer]] = []
        environ = keys.environ_of(scope, body, request_id, coroutines)
        environ[keys.FILE] = file
        environ[keys.CALLER] = caller
        # the views of trigger URLs only read the request; what they wait for is awaited
        is_trigger = scope["path"].startswith(TRIGGER_PREFIXES)
        answer = self._run_flask(environ) if is_trigger else await self._in_thread(environ, scope["path"])
        return coroutines, answer

    async def _in_thread(self, environ: dict[str, Any], path: str) -> Answer:
        is_management = path.startswith(MANAGEMENT_PREFIX)
        settings = self._settings
        seconds = settings.management_timeout_seconds if is_management else settings.accept_timeout_seconds
        patience = environ[keys.PATIENCE] = Patience()
        thread = self._threads.call(self._run_flask, environ)
        done, _ = await asyncio.wait({thread}, timeout=seconds)
        if not done and patience.run_out():
            thread.cancel()  # has an effect only while it waits for a thread
            raise Unavailable("The request could not be handled in time.")
        if not done:  # it is being committed: how that ends is what the caller must hear
            done, _ = await asyncio.wait({thread}, timeout=COMMIT_SECONDS)
        if not done:
            raise outcome_unknown("The commit did not end in time")
        return thread.result()

    def _run_flask(self, environ: dict[str, Any]) -> Answer:
        status = 500
        headers: list[tuple[str, str]] = []

        def start_response(line: str, given: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            nonlocal status, headers
            status = int(line.split(" ", 1)[0])
            headers = [(name.lower(), value) for name, value in given]

        respond: StartResponse = start_response
        parts: Iterable[bytes] = self._app.wsgi_app(environ, respond)
        try:
            return status, headers, b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def stop(self) -> None:
        self._threads.stop()


def _forget_frames(error: BaseException | None) -> None:
    """Let an error go of the frames that it came through: they hold bodies, and often the error.

    Such a circle would stay until the garbage collector comes, and a stranger can make many.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def serve(settings: Settings, services: Services) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun."""
    shell = Shell(make_app(services), settings)
    server = Server(
        shell,
        interface=Interfaces.ASGINL,
        address=settings.host,
        port=settings.port,
        backlog=1024,
        backpressure=settings.max_connections,
        http=HTTPModes.http1,
        # from the end of an answer to the end of the next head; SlowHeads bounds the head itself
        http1_settings=HTTP1Settings(header_read_timeout=round(settings.keep_alive_seconds * 1000)),
        websockets=False,
        log_enabled=False,
    )
    services.start()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(stopping.wait())
    watching = asyncio.create_task(_dead_thread(services))
    heads = asyncio.create_task(SlowHeads(settings.port, shell.in_hand).watch())
    readers = asyncio.create_task(StalledReaders(settings.port).watch())
    saying = asyncio.create_task(_say_that_it_listens(settings))
    await asyncio.wait({serving, waiting, watching, heads, readers}, return_when=asyncio.FIRST_COMPLETED)
    dead = watching.result() if watching.done() else None
    for task in (waiting, watching, heads, readers, saying):
        task.cancel()
    await _leave(server, serving, shell, services)
    await asyncio.to_thread(services.stop)
    await asyncio.to_thread(shell.stop)
    log.info("api_stopped")
    if dead is not None:
        log.critical("thread_died", thread=dead)
        sys.exit(EX_SOFTWARE)
    for task in (serving, heads, readers):
        if task.done() and not task.cancelled():
            task.result()


async def _say_that_it_listens(settings: Settings) -> None:
    """Log the URL as soon as it can be called, not before: a script may wait for that line."""
    while True:
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(LISTENS_SECONDS)
        else:
            writer.close()
            break
    log.info("api_listens", url=settings.base_url)


async def _leave(server: Server, serving: asyncio.Task[None], shell: Shell, services: Services) -> None:
    """Stop serving. Whoever can still be answered well is."""
    port, shell.is_leaving = services.settings.port, True
    if not serving.done() and services.dead_thread() is None:
        log.info("api_leaves")
        await let_clients_go(port)
    # who waits for an end would keep the server from its own
    await asyncio.to_thread(services.let_waiters_go)
    if not serving.done():
        await answer_the_last(port, shell.in_hand)
        await let_stalled_go(port)
        server.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, STOP_SECONDS)


async def _dead_thread(services: Services) -> str:
    """Wait until a loop of this process has died, and a moment more, in which /readyz says so."""
    while (dead := services.dead_thread()) is None:
        await asyncio.sleep(WATCH_SECONDS)
    await asyncio.sleep(WATCH_SECONDS)
    return dead


def with_port(settings: Settings) -> Settings:
    """The settings with a free port in place of 0: what is handed out and watched names it."""
    if settings.port:
        return settings
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, 0), family=family) as drawn:
        return settings.model_copy(update={"port": drawn.getsockname()[1]})


def main() -> None:
    """Run one API process: `python -m api.server`."""
    _, services = begin(lambda settings: make_services(with_port(settings)))
    uvloop.run(serve(services.settings, services))


if __name__ == "__main__":
    main()
