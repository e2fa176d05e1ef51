"""HTTP/1.1 over kept connections at as little cost as Python allows, so that the load leaves the
machine to what it loads.

A request is one prepared piece of bytes, an answer is its status. Nothing of HTTP beyond what the
measured servers say is understood.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

MAX_CONNECTIONS = 256
END_OF_HEAD = b"\r\n\r\n"

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def message_length(received: bytes | bytearray) -> int | None:
    """How long the first message in what was received is, head and body; None while that is not
    known.
    """
    end = received.find(END_OF_HEAD)
    if end < 0:
        return None
    found = _LENGTH.search(received, 0, end + 2)
    return end + len(END_OF_HEAD) + (int(found[1]) if found else 0)


class Posts:
    """Posts to one URL over as many connections as it takes, MAX_CONNECTIONS at most; the rest
    waits in line.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[bytes, asyncio.Future[int]]] = deque()
        self._opened: set[asyncio.Task[None]] = set()
        self._connections: list[_Connection] = []

    def post(self, body: bytes) -> asyncio.Future[int]:
        """Send this body now, or as soon as a connection is free.

        The future gets the status of the answer.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
        if self._idle:
            self._idle.pop().send(request, answer)
        else:
            self._waiting.append((request, answer))
            if len(self._opened) < MAX_CONNECTIONS:
                self._opened.add(asyncio.create_task(self._open()))
        return answer

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._free, self._lost), *self._address
            )
        except OSError as error:
            if self._waiting:
                self._waiting.popleft()[1].set_exception(error)
            return
        self._connections.append(connection)
        self._free(connection)

    def _free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _lost(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, free: Callable[[_Connection], None], lost: Callable[[_Connection], None]) -> None:
        self._free = free
        self._lost = lost
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def send(self, request: bytes, answer: asyncio.Future[int]) -> None:
        self._answer = answer
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        length = message_length(self._received)
        if length is None or len(self._received) < length or self._answer is None:
            return
        status = int(self._received[9:12])
        self._received = b""
        answer, self._answer = self._answer, None
        if not answer.done():
            answer.set_result(status)
        self._free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed without an answer"))

    def close(self) -> None:
        self._transport.close()
