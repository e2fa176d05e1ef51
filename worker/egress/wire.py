"""One request on a guarded connection, without aiohttp's client on top.

Invariants:

- All that connection.py promises of a connection holds here too. A small request leaves in one
  write, a large body as fast as the peer reads.
- Nothing is added to it but Host, Accept-Encoding and Content-Length.
- No redirect, cookie or second try exists here.

A connection goes back to the pool only when its request was sent and its response read to the end,
and nothing about it was odd.

aiohttp's client would build a request, a response, their header maps and a task for each attempt,
which costs three times what its connector and its parser do (docs/decisions/0007).
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import aiohttp
from aiohttp import hdrs
from aiohttp.client_reqrep import ConnectionKey

from shared.http_urls import HttpUrl
from worker.egress.connection import (
    NO_TIMEOUT,
    GuardedConnection,
    GuardedConnector,
    Progress,
)
from worker.egress.heads import INTERIM
from worker.egress.messages import HttpRequest, WireResponse

PIECE_BYTES = 64 * 1024

# An absent body needs no Content-Length.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Destination(aiohttp.ClientRequest):
    """Where the requests to one URL go: what the connector asks of a request, made once.

    context: of the identity that is shown there, None for none. It is part of the key by which the
    connector keeps connections. It is never sent itself: aiohttp would write the target in a
    spelling of its own.
    """

    def __init__(
        self, url: HttpUrl, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(hdrs.METH_POST, url.origin, loop=loop, ssl=True if context is None else context)
        self._key = super().connection_key
        self.name = f"{url.origin.host_subcomponent}:{url.origin.port}"
        host = self.headers[hdrs.HOST]
        self.after_method = f" {url.target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n"

    @property
    def connection_key(self) -> ConnectionKey:
        return self._key


async def exchange(
    connector: GuardedConnector,
    destination: Destination,
    request: HttpRequest,
    progress: Progress,
    *,
    in_pieces: bool,
) -> WireResponse:
    """Send one request and read its response.

    The caller has checked the message and keeps the deadline. in_pieces: the body goes out as fast
    as the peer reads, while an early answer is read. Where a body is cut off whose head decides all
    the same, progress has the answer.
    """
    connection = await connector.connect(destination, [], NO_TIMEOUT)
    method = request.method.upper()
    upload: asyncio.Task[None] | None = None
    is_whole = False
    try:
        protocol = connection.protocol
        assert isinstance(protocol, GuardedConnection)
        protocol.read_forgivingly(skip_payload=method == hdrs.METH_HEAD)
        protocol.expect_response(request.max_response_bytes)
        progress.begin(protocol, has_body=bool(request.body))
        head = _head(destination, method, request)
        if in_pieces:
            upload = asyncio.create_task(_upload(protocol, head, request.body, progress))
        else:
            _transport(protocol).write(head + request.body)
            progress.phase = "receive"
        message, payload = await protocol.read()
        while message.code in INTERIM:
            message, payload = await protocol.read()
        body = bytearray()
        try:
            truncated = await read_capped(payload, body, request.max_response_bytes)
        except BaseException:
            if protocol.is_enough():
                progress.answer = WireResponse(
                    message.code, message.raw_headers, bytes(body), truncated=False, remark=protocol.remark
                )
            raise
        remark = protocol.remark
        is_whole = not truncated and remark is None and (upload is None or upload.done())
        return WireResponse(message.code, message.raw_headers, bytes(body), truncated, remark)
    finally:
        if upload is not None:
            upload.cancel()
        if is_whole:
            connection.release()
        else:
            connection.close()


def _head(destination: Destination, method: str, request: HttpRequest) -> bytes:
    lines = [method, destination.after_method]
    for name, value in request.headers.items():
        lines += (name, ": ", value, "\r\n")
    if request.opaque:
        for name, values in request.opaque.items():
            for raw in values:
                lines += (name, ": ", raw.decode("latin-1"), "\r\n")
    if request.body or method not in _WITHOUT_BODY:
        lines.append(f"Content-Length: {len(request.body)}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def _transport(protocol: GuardedConnection) -> asyncio.Transport:
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("The connection was closed before the request was sent.")
    return transport


async def _upload(protocol: GuardedConnection, head: bytes, body: bytes, progress: Progress) -> None:
    """Send head and body as fast as the peer reads.

    When the connection breaks, whoever waits for the response hears of it.
    """
    with suppress(ConnectionError, aiohttp.ClientConnectionError):
        _transport(protocol).write(head)
        pieces = memoryview(body)
        for begin in range(0, len(body), PIECE_BYTES):
            _transport(protocol).write(pieces[begin : begin + PIECE_BYTES])
            await protocol._drain_helper()
        progress.phase = "receive"


async def read_capped(content: aiohttp.StreamReader, body: bytearray, cap: int) -> bool:
    """Read into body up to its end or to cap bytes. Returns whether there were more."""
    while chunk := await content.readany():
        body += chunk
        if len(body) > cap:
            del body[cap:]
            return True
    return False
