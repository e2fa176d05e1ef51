"""Connections behind the door: where addresses are checked and where the wire is bounded.

Invariants:

- Every address is checked at the moment when its socket is made, literals and names alike.
- A response's head and all its bytes on the wire are bounded; what is odd about its framing is
  noted (forgiving.py).
- A connection takes nothing that was not asked for.
- A connection that is given up is aborted, so a peer that does not read holds no memory of ours.
- A request is sent once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from worker.egress.addresses import AddressGuard
from worker.egress.errors import Phase
from worker.egress.forgiving import ForgivingParser
from worker.egress.heads import INTERIM
from worker.egress.messages import Dialled, WireResponse
from worker.egress.resolver import GuardedResolver

READ_BUFFER_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024

# Sites send Content-Security-Policy of tens of kB with a good answer.
MAX_FIELD_BYTES = 64 * 1024
MAX_HEADERS = 256

# All that precedes the body, so that endless 1xx responses end as well.
MAX_HEAD_BYTES = 256 * 1024

# A body sent byte by byte in chunks takes six times its size on the wire.
MAX_CHUNK_OVERHEAD = 8

# What may be under way when the cap is reached; it ends endless framing.
SPARE_WIRE_BYTES = 1024 * 1024

# The "Connection Attempt Delay" of RFC 8305.
HAPPY_EYEBALLS_SECONDS = 0.25
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)


class Progress:
    """How far one request has got. The connector and whoever sends it write it.

    answer: a response that counts although its body was cut off. told: where what was dialled is to
    be noted, if anybody wants to know.
    """

    __slots__ = ("answer", "connection", "dialled", "phase", "told", "transport")

    def __init__(self, told: Dialled | None = None) -> None:
        self.told = told
        self.answer: WireResponse | None = None
        self.phase: Phase = "resolve"
        self.dialled = False
        self.connection: GuardedConnection | None = None
        self.transport: asyncio.Transport | None = None

    def begin(self, connection: GuardedConnection, *, has_body: bool) -> None:
        self.connection = connection
        self.transport = connection.transport
        self.phase = "send" if has_body else "receive"
        if self.told is not None and self.transport is not None:
            self.told.address = self.transport.get_extra_info("peername", (None,))[0]

    @property
    def reused_and_silent(self) -> bool:
        return self.connection is not None and not self.dialled and not self.connection.received

    def abort_if_closed(self) -> None:
        """Drop what a closed connection still wants to send; one that is in the pool lives on."""
        if self.connection is not None and self.connection.transport is None and self.transport is not None:
            self.transport.abort()


current: ContextVar[Progress | None] = ContextVar("egress_progress", default=None)


class GuardedConnection(ResponseHandler):
    """One connection; it bounds what a response may put on the wire and takes nothing unasked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connector: GuardedConnector) -> None:
        super().__init__(loop)
        self._connector = connector
        self._awaits_head = False
        self._allowed = 0
        self._allowed_for_body = 0
        self._forgiving: ForgivingParser | None = None
        self.received = 0

    @property
    def remark(self) -> str | None:
        """What was odd about the present response; with a remark it must be the last one here."""
        return None if self._forgiving is None else self._forgiving.remark

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connector.open.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connector.open.discard(self)
        super().connection_lost(exc)

    def is_enough(self) -> bool:
        """Whether the head alone says how it ended: no more of the present response is read."""
        return self._forgiving is not None and self._forgiving.is_enough()

    def read_forgivingly(self, *, skip_payload: bool) -> None:
        """Make the parser of the next response. skip_payload: it has none, as that to a HEAD."""
        self._make_parser(skip_payload)
        self._forgiving = ForgivingParser(self._parser, self._make_fresh_parser)
        self._parser = self._forgiving  # type: ignore[assignment]

    def _make_parser(self, skip_payload: bool) -> None:
        self.set_response_params(
            skip_payload=skip_payload,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )

    def _make_fresh_parser(self) -> Any:
        self._make_parser(self._skip_payload)
        fresh, self._parser = self._parser, self._forgiving  # type: ignore[assignment]
        return fresh

    def expect_response(self, max_body_bytes: int) -> None:
        """Begin to count for the next response."""
        self.received = 0
        self._awaits_head = True
        self._allowed = MAX_HEAD_BYTES
        self._allowed_for_body = MAX_CHUNK_OVERHEAD * max_body_bytes + SPARE_WIRE_BYTES
        if self._connector.has_idle_enough:
            self.force_close()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Queue a parsed head.

        Interim ones count towards the allowance of the one that they precede.
        """
        if data[0].code not in INTERIM:
            self._awaits_head = False
            self._allowed = self.received + self._allowed_for_body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if data and self._is_idle():  # a later request would take it for its own response
            if self._forgiving is not None:
                self._forgiving.note_behind()
            self._cut()
            return
        self.received += len(data)
        super().data_received(data)
        if self.received > self._allowed:
            self.set_exception(HttpProcessingError(code=400, message="more bytes than any response needs"))
            self._cut()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail whoever waits.

        aiohttp forgets the reader of the body, who would wait for the deadline.
        """
        cause = exc if exc_cause is None else exc_cause
        body = self._payload
        super().set_exception(exc, cause)
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(exc, cause)

    def _is_idle(self) -> bool:
        return not self._awaits_head and (self._payload is None or self._payload.is_eof())

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class GuardedConnector(aiohttp.TCPConnector):
    """aiohttp's pool with a guard where sockets are made and a bound on idle connections."""

    allowed_protocol_schema_set = frozenset({"http", "https"})

    def __init__(
        self,
        guard: AddressGuard,
        resolver: GuardedResolver,
        *,
        limit: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # the resolver has its own, and knows tenants
            limit=limit,
            limit_per_host=0,
            ssl=ssl_context or True,
            happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            socket_factory=partial(_open_socket, guard),
        )
        self.open: set[GuardedConnection] = set()
        self._factory = partial(self._connection)

    def _connection(self) -> ResponseHandler:
        return GuardedConnection(self._loop, self)

    @property
    def has_idle_enough(self) -> bool:
        """aiohttp bounds only connections in use; many hosts would exhaust the file descriptors."""
        return len(self.open) - len(self._acquired) > self._limit

    def let_go(self, context: ssl.SSLContext) -> None:
        """End the idle connections that were made with a context, which they keep in memory."""
        for key in [key for key in self._conns if key.ssl is context]:
            for connection, _ in self._conns.pop(key):
                connection.abort()

    def abort_all(self) -> None:
        for connection in tuple(self.open):
            connection.abort()


def _open_socket(guard: AddressGuard, info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one address, or raise BlockedAddress.

    Literals and names all come by here.
    """
    family, kind, protocol, _, address = info
    progress = current.get()
    if progress is not None:
        progress.dialled = True
        progress.phase = "connect"
        if progress.told is not None:
            progress.told.address = address[0]
    guard.check(address[0])
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
