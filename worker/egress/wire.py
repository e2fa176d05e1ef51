"""One small request on a guarded connection, without aiohttp's client on top.

Invariants:

- All that connection.py promises of a connection holds here too. A request's head and body leave in
  one write.
- Nothing is added to it but Host, Accept-Encoding and Content-Length.
- No redirect, cookie or second try exists here.

A connection goes back to the pool only when its response was read to the end.

aiohttp's client would build a request, a response, their header maps and a task for each attempt,
which costs three times what its connector and its parser do (docs/decisions/0007). Large bodies,
which must be sent as fast as the peer reads, still go through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import hdrs
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from worker.egress.connection import (
    MAX_FIELD_BYTES,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    NO_TIMEOUT,
    GuardedConnection,
    GuardedConnector,
    Progress,
)

READ_BUFFER_BYTES = 64 * 1024
SWITCHING_PROTOCOLS = 101

# An absent body needs no Content-Length.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Destination(aiohttp.ClientRequest):
    """Where the requests to one URL go: what the connector asks of a request, made once.

    It is never sent itself.
    """

    def __init__(self, url: URL, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(hdrs.METH_POST, url, loop=loop)
        self._key = super().connection_key
        self.name = f"{url.host_subcomponent}:{url.port}"
        self.after_method = (
            f" {url.raw_path_qs} HTTP/1.1\r\nHost: {self.headers[hdrs.HOST]}\r\nAccept-Encoding: identity\r\n"
        )

    @property
    def connection_key(self) -> ConnectionKey:
        return self._key


class WireResponse(NamedTuple):
    """What came back.

    raw_headers: as on the wire. body: undecoded; truncated: there was more than the cap.
    """

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    truncated: bool


async def exchange(
    connector: GuardedConnector,
    destination: Destination,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    max_response_bytes: int,
    progress: Progress,
) -> WireResponse:
    """Send one request and read its response.

    The caller has checked the message and keeps the deadline.
    """
    connection = await connector.connect(destination, [], NO_TIMEOUT)
    is_whole = False
    try:
        protocol = connection.protocol
        assert isinstance(protocol, GuardedConnection)
        protocol.set_response_params(
            skip_payload=method == hdrs.METH_HEAD,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )
        protocol.expect_response(max_response_bytes)
        progress.begin(protocol, has_body=bool(body))
        _write(protocol, destination, method, headers, body)
        progress.phase = "receive"
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != SWITCHING_PROTOCOLS:
            message, payload = await protocol.read()
        content, truncated = await read_capped(payload, max_response_bytes)
        is_whole = not truncated
        return WireResponse(message.code, message.raw_headers, content, truncated)
    finally:
        if is_whole:
            connection.release()
        else:
            connection.close()


def _write(
    protocol: GuardedConnection,
    destination: Destination,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
) -> None:
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("The connection was closed before the request was sent.")
    lines = [method, destination.after_method]
    for name, value in headers.items():
        lines += (name, ": ", value, "\r\n")
    if body or method not in _WITHOUT_BODY:
        lines.append(f"Content-Length: {len(body)}\r\n")
    lines.append("\r\n")
    transport.write("".join(lines).encode("ascii") + body)


async def read_capped(content: aiohttp.StreamReader, cap: int) -> tuple[bytes, bool]:
    """Read a body up to its end or to cap bytes. Returns the bytes, and whether there were more."""
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > cap:
            return bytes(body[:cap]), True
    return bytes(body), False
