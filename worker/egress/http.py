"""HTTP through the one door.

Invariants: request() puts at most one request on the wire, follows no redirect and returns or raises
within timeout_ms, which covers the look-up, connecting, TLS, sending and the last byte of the response.
Every address is checked at the moment when it is dialled. At most max_response_bytes of a body are kept,
undecoded, and a response's head is bounded too. A connection that is given up is aborted: a peer that
does not read holds no memory of ours. Whatever fails is raised as EgressError.

A few names of aiohttp that are not public carry this (_retry_connection, _factory, _acquired, _payload);
tests/security fails if an upgrade changes what they do.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
import ssl
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from worker.egress.addresses import AddressGuard
from worker.egress.errors import EgressError, Phase, bad_request, translate
from worker.egress.resolver import CACHE_SECONDS, GetAddrInfo, GuardedResolver, acting_for

MAX_LINE_BYTES = 16 * 1024
MAX_FIELD_BYTES = 64 * 1024  # sites send Content-Security-Policy of tens of kB with a good answer
MAX_HEADERS = 256
MAX_HEAD_BYTES = 256 * 1024  # all that precedes the body, so that endless 1xx responses end as well
MAX_CHUNK_OVERHEAD = 8  # a body sent byte by byte in chunks takes six times its size on the wire
SPARE_WIRE_BYTES = 1024 * 1024  # what may be under way when the cap is reached; it ends endless framing
WHOLE_BODY_BYTES = 64 * 1024  # a larger body goes out in pieces, as fast as the peer reads
HAPPY_EYEBALLS_SECONDS = 0.25  # the "Connection Attempt Delay" of RFC 8305

# aiohttp and the connection decide these; from a caller they could smuggle a second request.
FRAMING_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_STOPPED = "The worker stopped before the request was sent."
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_HOST = re.compile(r"[0-9A-Za-z._:-]+")  # after IDNA; no scope ids, no percent-encoding
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. headers are sent as they are; tenant is whom the look-up is charged to."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_ms: int
    max_response_bytes: int
    tenant: str


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back. headers: in the order of the wire, without NUL, surrogates or other controls.

    body: the bytes of the wire, never decompressed. truncated: there was more, or would have been.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool


class Egress:
    """The guarded HTTP client of one process. Lives in one event loop: start() and close() it there.

    connection_limit: connections in use at once; as many again may be kept alive.
    """

    def __init__(
        self,
        *,
        guard: AddressGuard,
        dns_threads: int,
        connection_limit: int,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        ssl_context: ssl.SSLContext | None = None,
        dns_cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        self._guard = guard
        self._make_resolver = partial(
            GuardedResolver,
            guard,
            threads=dns_threads,
            getaddrinfo=getaddrinfo,
            cache_seconds=dns_cache_seconds,
        )
        self._connection_limit = connection_limit
        self._ssl_context = ssl_context
        self._resolver: GuardedResolver | None = None
        self._connector: _Connector | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The guarded session, for a transport that brings its own deadline, cap and acting_for()."""
        if self._session is None:
            raise RuntimeError("egress is not started")
        return self._session

    async def start(self) -> None:
        """Open the door: make the session in the running loop."""
        self._resolver = self._make_resolver()
        self._connector = _Connector(
            self._guard, self._resolver, limit=self._connection_limit, ssl_context=self._ssl_context
        )
        self._session = _open_session(self._connector)

    async def close(self) -> None:
        """Abort what is under way and give everything back."""
        if self._session is None or self._connector is None or self._resolver is None:
            return
        self._connector.abort_all()
        await self._session.close()
        await self._resolver.close()
        self._session = self._connector = self._resolver = None

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send one request and return the response, whatever its status.

        Raises EgressError, and CancelledError when the caller is cancelled; nothing else.
        """
        session, destination = self._session, "the URL"
        if session is None:
            raise EgressError("connect_failed", _STOPPED)
        attempt = _Attempt(request.max_response_bytes)
        try:
            url = _read_url(request.url)
            destination = f"{url.host_subcomponent}:{url.port}"
            _check_message(request)
            async with asyncio.timeout(request.timeout_ms / 1000):
                return await _exchange(session, url, request, attempt)
        except EgressError:
            raise
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            # aiohttp cancels those who wait when its connector is closed
            raise EgressError("connect_failed", _STOPPED, phase=attempt.phase) from None
        except Exception as error:  # noqa: BLE001 - none is swallowed: each becomes an EgressError
            # from None: the text of a foreign exception may hold the URL, which may be a credential
            raise translate(
                error,
                destination=destination,
                phase=attempt.phase,
                reused_and_silent=attempt.reused_and_silent,
            ) from None


async def _exchange(
    session: aiohttp.ClientSession, url: URL, request: HttpRequest, attempt: _Attempt
) -> HttpResponse:
    response: aiohttp.ClientResponse | None = None
    token = _current.set(attempt)
    try:
        with acting_for(request.tenant):
            response = await session.request(
                request.method,
                url,
                headers=request.headers,
                data=_payload(request.body),
                allow_redirects=False,
            )
        body, truncated = await _read_capped(response.content, request.max_response_bytes)
        headers = tuple((_text(name), _text(value)) for name, value in response.raw_headers)
        return HttpResponse(response.status, headers, body, truncated)
    finally:
        _current.reset(token)
        if response is not None:
            response.close()  # does nothing when the connection is already back in the pool
        attempt.abort_if_closed()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _Attempt:
    """How far one request has got. The connector, the request and the connection write it."""

    __slots__ = ("connection", "dialled", "max_body_bytes", "phase", "transport")

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self.phase: Phase = "resolve"
        self.dialled = False
        self.connection: _Connection | None = None
        self.transport: asyncio.Transport | None = None

    def begin(self, connection: _Connection, *, has_body: bool) -> None:
        self.connection = connection
        self.transport = connection.transport
        self.phase = "send" if has_body else "receive"

    @property
    def reused_and_silent(self) -> bool:
        return self.connection is not None and not self.dialled and not self.connection.received

    def abort_if_closed(self) -> None:
        """Drop what a closed connection still wants to send; one that went back to the pool lives on."""
        if self.connection is not None and self.connection.transport is None and self.transport is not None:
            self.transport.abort()


_current: ContextVar[_Attempt | None] = ContextVar("egress_attempt", default=None)


class _Connection(ResponseHandler):
    """One connection, which bounds what a response may put on the wire and takes nothing unasked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connector: _Connector) -> None:
        super().__init__(loop)
        self._connector = connector
        self._awaits_head = False
        self._allowed = 0
        self._allowed_for_body = 0
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connector.open.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connector.open.discard(self)
        super().connection_lost(exc)

    def expect_response(self, max_body_bytes: int | None) -> None:
        """Begin to count for the next response. None: whoever reads the body bounds it by itself."""
        self.received = 0
        self._awaits_head = True
        self._allowed = MAX_HEAD_BYTES
        self._allowed_for_body = (
            sys.maxsize if max_body_bytes is None else MAX_CHUNK_OVERHEAD * max_body_bytes + SPARE_WIRE_BYTES
        )
        if self._connector.has_idle_enough:
            self.force_close()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Queue a parsed head. Interim ones count towards the allowance of the one that they precede."""
        if data[0].code >= 200 or data[0].code == 101:
            self._awaits_head = False
            self._allowed = self.received + self._allowed_for_body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if data and self._is_idle():  # a later request would take it for its own response
            self._cut()
            return
        self.received += len(data)
        super().data_received(data)
        if self.received > self._allowed:
            self.set_exception(HttpProcessingError(code=400, message="more bytes than any response needs"))
            self._cut()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail whoever waits. aiohttp forgets the reader of the body, who would wait for the deadline."""
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


class _Connector(aiohttp.TCPConnector):
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
        self.open: set[_Connection] = set()
        self._factory = partial(self._connection)

    def _connection(self) -> ResponseHandler:
        return _Connection(self._loop, self)

    @property
    def has_idle_enough(self) -> bool:
        """aiohttp bounds only connections in use; many hosts would exhaust the file descriptors."""
        return len(self.open) - len(self._acquired) > self._limit

    def abort_all(self) -> None:
        for connection in tuple(self.open):
            connection.abort()


class _Request(aiohttp.ClientRequest):
    """A request that tells its attempt when it leaves and when it has left."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        connection = conn.protocol
        assert isinstance(connection, _Connection)
        attempt = _current.get()
        connection.expect_response(None if attempt is None else attempt.max_body_bytes)
        if attempt is not None:
            attempt.begin(connection, has_body=bool(self._body))
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        connection, transport = conn.protocol, conn.transport
        try:
            await super().write_bytes(writer, conn, content_length)
        except BaseException:
            if transport is not None:
                transport.abort()
            raise
        attempt = _current.get()
        if attempt is not None and connection is not None and connection.exception() is None:
            attempt.phase = "receive"


def _open_session(connector: _Connector) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        request_class=_Request,
        headers={"Accept-Encoding": "identity"},
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_NO_TIMEOUT,
        trust_env=False,
        auto_decompress=False,
        raise_for_status=False,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        max_headers=MAX_HEADERS,
    )
    # aiohttp sends an idempotent request again when a kept-alive connection dies under it, and has
    # no public switch for that. An attempt is one request; whether there is another is the engine's
    # decision.
    session._retry_connection = False
    return session


def _open_socket(guard: AddressGuard, info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one address, or raise BlockedAddress. Literals and names all come by here."""
    family, kind, protocol, _, address = info
    attempt = _current.get()
    if attempt is not None:
        attempt.dialled = True
        attempt.phase = "connect"
    guard.check(address[0])
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _read_url(text: str) -> URL:
    """Parse a URL that can be sent to, or raise EgressError. No message repeats any part of it."""
    if _CONTROL.search(text):  # yarl would drop them silently
        raise bad_request("The URL holds a control character.")
    try:
        text.encode()  # yarl drops lone surrogates, too
        url = URL(text)
    except ValueError:
        raise bad_request("This is not a URL.") from None
    if url.scheme not in ("http", "https") or not _HOST.fullmatch(url.raw_host or ""):
        raise bad_request("A URL starts with http:// or https:// and names a host.")
    if url.raw_user is not None or url.raw_password is not None:
        raise bad_request("A URL must not hold a user name or password; use an Authorization header.")
    return url


def _check_message(request: HttpRequest) -> None:
    """Raise EgressError for a method or header that cannot be sent, or that would change the framing."""
    if not _TOKEN.fullmatch(request.method) or request.method.upper() == "CONNECT":
        raise bad_request("This is not a method that can be sent.")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            raise bad_request("A header's name holds a character that cannot be sent.")
        if name.lower() in FRAMING_HEADERS:
            raise bad_request(f"The header {name} is set by Pointsman and cannot be overridden.")
        if not _FIELD_VALUE.fullmatch(value):
            raise bad_request(f"The header {name} holds a character other than printable ASCII.")


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    if not body:
        return None
    return body if len(body) <= WHOLE_BODY_BYTES else io.BytesIO(body)


async def _read_capped(content: aiohttp.StreamReader, cap: int) -> tuple[bytes, bool]:
    """Read a body up to its end or to cap bytes. Returns the bytes, and whether there were more."""
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > cap:
            return bytes(body[:cap]), True
    return bytes(body), False


def _text(raw: bytes) -> str:
    """A header's bytes as text that JSON and PostgreSQL can store: UTF-8, or else latin-1."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text if text.isprintable() else _CONTROL_BUT_TAB.sub("\N{REPLACEMENT CHARACTER}", text)
