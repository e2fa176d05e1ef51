"""A webhook receiver that keeps what it got, in a thread of its own.

The path, without its query, says how it behaves: /ok, /status/<code>, /delay/<ms>, /hang, /close,
/drip, /json (its path), /echo (its path and headers as JSON; /echo/nul: and a NUL), /nul (a body
with NUL bytes), /big (1 MiB), /flaky/<n> (503 up to attempt n, 200 from the next). Everything else
answers 200. A redirect leads to `location`, by default to the URL that was called.
`before_answer` is called with each path. Speaks raw HTTP/1.1 with keep-alive, so that it keeps up
with thousands of deliveries; under TLS if it has a context for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import uvloop

# A client that begins so speaks TLS, and would wait for ever.
TLS = b"\x16"


@dataclass(slots=True)
class Receipt:
    """One request that came in whole.

    at, answered_at: by the receiver's clock; None: it was not answered. path: with its query.
    client: whom the caller's certificate names. connection: on which of all it came.
    """

    at: float
    path: str
    headers: dict[str, str]
    body: bytes
    answered_at: float | None = None
    method: str = "POST"
    client: str | None = None
    connection: int = 0

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def trigger_id(self) -> str:
        return self.headers["pointsman-trigger-id"]

    @property
    def action_id(self) -> str:
        return self.headers["pointsman-action-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["pointsman-attempt"])


@dataclass
class Receiver:
    """The receiver. receipts: what came, in the order in which it came. tls: None: plain HTTP."""

    receipts: list[Receipt] = field(default_factory=list)
    port: int = 0
    before_answer: Callable[[str], None] = lambda _path: None
    tls: ssl.SSLContext | None = None
    connections: int = 0
    location: str | None = None

    def __enter__(self) -> Receiver:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the receiver did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, path: str = "/ok") -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def got(self, path: str) -> list[Receipt]:
        return [receipt for receipt in self.receipts if receipt.path == path]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(
            self._answer_all, "127.0.0.1", 0, limit=4 * 1024 * 1024, ssl=self.tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        begun = await reader.readexactly(1)
        if begun == TLS:
            return False
        head = (begun + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, *_ = first.split(" ")
        self.before_answer(path)
        receipt = Receipt(
            time.monotonic(), path, headers, body, method=method, client=_client(writer), connection=number
        )
        self.receipts.append(receipt)
        return await self._behave(receipt, writer)

    async def _behave(self, receipt: Receipt, writer: asyncio.StreamWriter) -> bool:
        kind, _, argument = receipt.path.partition("?")[0].strip("/").partition("/")
        status, body = 200, b'{"ok": true}'
        match kind:
            case "status":
                status, body = int(argument.partition("/")[0]), b"as you asked"
            case "json":
                body = json.dumps({"path": receipt.path}).encode()
            case "echo":
                body = json.dumps({"path": receipt.path, "headers": receipt.headers}).encode()
                body += b"\x00" * (argument == "nul")
            case "flaky":
                status, body = 503 if receipt.attempt <= int(argument) else 200, b"flaky"
            case "delay":
                await asyncio.sleep(int(argument) / 1000)
                body = b"late"
            case "hang":
                await asyncio.sleep(3600)
            case "close":
                return False
            case "drip":
                await _drip(writer)
            case "nul":
                body = b"a\x00b"
            case "big":
                body = b"x" * 1024 * 1024
            case "heads":
                writer.write(
                    b"HTTP/1.1 200 X\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 6_000) for n in range(9))
                )
                writer.write(b"content-length: 0\r\n\r\n")
                await writer.drain()
                return True
        receipt.answered_at = time.monotonic()  # before the answer leaves: what follows it comes later
        _write(
            writer, status, body, (self.location or self.url(receipt.path)) if 300 <= status < 400 else None
        )
        await writer.drain()
        return True


def _client(writer: asyncio.StreamWriter) -> str | None:
    """The common name of the caller's certificate."""
    shown: dict[str, tuple[tuple[tuple[str, str], ...], ...]] = writer.get_extra_info("peercert") or {}
    names = dict(part for parts in shown.get("subject", ()) for part in parts)
    return names.get("commonName")


async def _drip(writer: asyncio.StreamWriter) -> None:
    """Answer bit by bit until the peer has gone."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.1)


def _write(writer: asyncio.StreamWriter, status: int, body: bytes, location: str | None = None) -> None:
    more = "" if location is None else f"location: {location}\r\n"
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-type: text/plain\r\n%bcontent-length: %d\r\n\r\n"
        % (status, more.encode("latin-1"), len(body))
        + body
    )
