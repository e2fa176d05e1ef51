"""HTTP peers that misbehave, one behaviour each, on loopback.

A peer counts the connections that it got and keeps every request head that it read, so that a test
can say what was *not* sent. Behaviours speak raw bytes: none of them shares code with the client
under test. A peer lives in the test's own event loop and leaves nothing open when its block ends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")
Behaviour = Callable[["HostilePeer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DRIP_SECONDS = 0.02
SMALL_BUFFER_BYTES = 4096


def run(loop: str, story: Coroutine[Any, Any, Result]) -> Result:
    """Run a test's coroutine on the named kind of event loop."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(story)


async def until(condition: Callable[[], bool], seconds: float = 1.0) -> bool:
    """Wait for a condition; say whether it came true in time."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        return False
    return True


class HostilePeer:
    """A server on 127.0.0.1 (or another loopback address) that treats every connection the same bad
    way.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._behaviour = behaviour
        self._host = host
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = port
        self.connections = 0
        self.requests: list[bytes] = []

    @property
    def open(self) -> int:
        """Connections whose behaviour has not ended."""
        return len(self._tasks)

    def url(self, path: str = "/", *, scheme: str = "http", host: str | None = None) -> str:
        return f"{scheme}://{host or self._host}:{self.port}{path}"

    async def __aenter__(self) -> HostilePeer:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # a small window, so that «does not read» is felt after kilobytes instead of megabytes
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        listener.bind((self._host, self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(
            self._serve, sock=listener, ssl=self._tls, limit=SMALL_BUFFER_BYTES * 16
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._behaviour(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one whole request; its head is kept in `requests`.

        Raises IncompleteReadError at the end.
        """
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return head + await reader.readexactly(int(line.split(b":")[1]))
        return head


def answers(*responses: bytes) -> Behaviour:
    """Answer each request on a connection with the next response, the last one over and over."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue = list(responses)
        while True:
            await peer.read_request(reader)
            writer.write(queue.pop(0) if len(queue) > 1 else queue[0])
            await writer.drain()

    return behave


def answers_then_closes(response: bytes) -> Behaviour:
    """Answer one request and close."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        await _send_and_close(writer, response)

    return behave


def answers_then_dies(*, reset: bool = False) -> Behaviour:
    """Serve one request well; read the next one on that connection whole, and close without a
    byte.
    """

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(OK)
        await peer.read_request(reader)
        if reset:
            _reset(writer)
        else:
            await _send_and_close(writer, b"")

    return behave


def drips(start: bytes, piece: bytes) -> Behaviour:
    """Send the start at once, then one piece every few milliseconds for ever."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(start)
        while True:
            await asyncio.sleep(DRIP_SECONDS)
            writer.write(piece)
            await writer.drain()

    return behave


def floods(start: bytes, piece: bytes) -> Behaviour:
    """Send the start, then pieces as fast as the client takes them, for ever."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return behave


def closes_at_once() -> Behaviour:
    """Close the connection before reading."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    return behave


def hangs() -> Behaviour:
    """Accept (in TLS: finish the handshake), then neither read nor write, not even a
    close_notify.
    """

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    return behave


def answers_early(response: bytes) -> Behaviour:
    """Answer when the head has come, and never read the body."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response)
        await asyncio.Event().wait()

    return behave


def answers_in_two(start: bytes, rest: bytes) -> Behaviour:
    """Send the second part when the client has certainly seen the first."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(start)
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(rest)
        await _until_closed(reader)

    return behave


def speaks_first(data: bytes) -> Behaviour:
    """Send before anything was asked; then read to the end."""

    async def behave(peer: HostilePeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await _until_closed(reader)

    return behave


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def _send_and_close(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
