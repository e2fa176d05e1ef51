"""The door of HTTP.

Invariants:

- request() puts at most one request on the wire, follows no redirect and returns or raises within
  timeout_ms, which covers the look-up, connecting, TLS, sending and the last byte of the response.
- Every address is checked at the moment when it is dialled.
- At most max_response_bytes of a body are kept, undecoded, and a response's head is bounded too.
- A connection that is given up is aborted: a peer that does not read holds no memory of ours.
- Whatever fails is raised as EgressError.

A few names of aiohttp that are not public carry this (_factory, _acquired, _conns, _limit, _loop,
_payload, _parser, _skip_payload, _drain_helper); tests/security fails if an upgrade changes what
they do.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import structlog

from shared.config import Settings
from shared.http_urls import HttpUrl, read_url
from worker.egress.addresses import AddressGuard, BlockedAddress
from worker.egress.connection import GuardedConnector, Progress, current
from worker.egress.errors import EgressError, bad_request
from worker.egress.identities import Identities
from worker.egress.messages import ClientIdentity, Dialled, HttpRequest, HttpResponse, WireResponse
from worker.egress.resolver import CACHE_SECONDS, GetAddrInfo, GuardedResolver, acting_tenant
from worker.egress.tokens import Tokens
from worker.egress.translate import translate
from worker.egress.wire import Destination, exchange

# A larger body goes out in pieces, as fast as the peer reads.
WHOLE_BODY_BYTES = 64 * 1024

# About 3 KiB each.
MAX_KEPT_DESTINATIONS = 1_024

# For what has no place of a worker's, so that it takes no connection from what has one: probes, and
# fetches of tokens that nobody waits for.
SPARE_CONNECTIONS = 64

log = structlog.get_logger("egress")

# The connection and aiohttp decide these; from a caller they could smuggle a second request.
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

# RFC 9110 §5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OPAQUE_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TOKENS = re.compile(rf"{_TOKEN.pattern}(?:\n{_TOKEN.pattern})*")
_FIELD_VALUES = re.compile(r"[\t\x20-\x7e\n]*")
_CONTROL_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Egress:
    """The door of all HTTP action types: the guarded client of a process. Lives in one event loop.

    connection_limit: connections in use at once; as many again may be kept alive. tokens: of the
    credentials with which action types ask through it.
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
        self._connector: GuardedConnector | None = None
        self._identities = Identities(self._let_go)
        self.tokens = Tokens()
        self._destination: Callable[[str], Destination]

    @classmethod
    def make(cls, settings: Settings) -> Egress:
        """The door of one worker process."""
        return cls(
            guard=AddressGuard(
                settings.egress_allow, settings.egress_deny, show=settings.environment == "local"
            ),
            dns_threads=settings.dns_threads,
            connection_limit=settings.capacity + SPARE_CONNECTIONS,
        )

    async def open(self) -> None:
        """Make the connector in the running loop."""
        self._resolver = self._make_resolver()
        self._connector = GuardedConnector(
            self._guard, self._resolver, limit=self._connection_limit, ssl_context=self._ssl_context
        )
        loop = asyncio.get_running_loop()
        self._destination = lru_cache(MAX_KEPT_DESTINATIONS)(lambda url: Destination(_read_url(url), loop))

    async def close(self) -> None:
        """Abort what is under way and give everything back."""
        if self._connector is None or self._resolver is None:
            return
        self.tokens.close()
        self._identities.close()
        self._connector.abort_all()
        await self._connector.close()
        await self._resolver.close()
        self._connector = self._resolver = None

    def dead_thread(self) -> str | None:
        """None: the only threads look names up, and each is made anew when it is needed."""
        return None

    async def request(self, request: HttpRequest, dialled: Dialled | None = None) -> HttpResponse:
        """Send one request and return the response, whatever its status.

        dialled: where what was dialled is to be noted, for a caller that wants to know.

        Raises EgressError, and CancelledError when the caller is cancelled; nothing else.
        """
        if self._connector is None:
            raise EgressError("connect_failed", _STOPPED)
        progress, named = Progress(dialled), "the URL"
        try:
            destination = self._destination(request.url)
            named = destination.name
            if dialled is not None:
                dialled.named = named
            _check_message(request)
            async with asyncio.timeout(request.timeout_ms / 1000):
                if request.identity is not None:
                    destination = await self._of_identity(request.url, request.identity)
                return await self._exchange(destination, request, progress)
        except EgressError:
            raise
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            # aiohttp cancels those who wait when its connector is closed
            raise EgressError("connect_failed", _STOPPED, phase=progress.phase) from None
        except Exception as error:  # noqa: BLE001 - none is swallowed: each becomes an EgressError
            if progress.answer is not None:
                return _read(progress.answer)
            _note_blocked(error, named, request.tenant, dialled)
            # from None: the text of a foreign exception may hold the URL, which may be a credential
            raise translate(
                error,
                destination=named,
                phase=progress.phase,
                reused_and_silent=progress.reused_and_silent,
            ) from None

    async def _of_identity(self, url: str, identity: ClientIdentity) -> Destination:
        """Not kept, since it would keep its context, which is large."""
        context = await self._identities.context(identity)
        return Destination(_read_url(url), asyncio.get_running_loop(), context)

    def _let_go(self, context: ssl.SSLContext) -> None:
        if self._connector is not None:
            self._connector.let_go(context)

    async def _exchange(
        self, destination: Destination, request: HttpRequest, progress: Progress
    ) -> HttpResponse:
        token, tenant_token = current.set(progress), acting_tenant.set(request.tenant)
        try:
            assert self._connector is not None
            in_pieces = len(request.body) > WHOLE_BODY_BYTES
            found = await exchange(self._connector, destination, request, progress, in_pieces=in_pieces)
        finally:
            current.reset(token)
            acting_tenant.reset(tenant_token)
            progress.abort_if_closed()
        return _read(found)


def _read(found: WireResponse) -> HttpResponse:
    headers = tuple((_text(name), _text(value)) for name, value in found.raw_headers)
    return HttpResponse(found.status, headers, found.body, found.truncated, found.remark)


def _note_blocked(
    error: BaseException | None, destination: str, tenant: str, dialled: Dialled | None
) -> None:
    """Tell the operator what the tenant is not told: which address it was, and which setting."""
    while error is not None and not isinstance(error, BlockedAddress):
        error = error.__cause__
    if error is not None:
        log.info("address_blocked", destination=destination, tenant=tenant, address=str(error))
        if dialled is not None:
            dialled.address = error.alone


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _read_url(text: str) -> HttpUrl:
    """Read a URL that can be sent to, or raise EgressError. No message repeats any part of it."""
    try:
        return read_url(text)
    except ValueError as error:
        raise bad_request(f"The request cannot be sent: {error}.") from None


def _check_message(request: HttpRequest) -> None:
    """Raise EgressError for a method or header that cannot be sent or would change the framing."""
    if not _TOKEN.fullmatch(request.method) or request.method.upper() == "CONNECT":
        raise bad_request("This is not a method that can be sent.")
    if not _can_be_sent(request.headers):
        for name, value in request.headers.items():
            _check_name(name)
            if not _FIELD_VALUE.fullmatch(value):
                raise bad_request(f"The header {name} holds a character other than printable ASCII.")
    for name, lines in request.opaque.items():
        _check_name(name)
        if not all(map(_OPAQUE_VALUE.fullmatch, lines)):
            raise bad_request(f"The header {name} holds a control character.")


def _check_name(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise bad_request("A header's name holds a character that cannot be sent.")
    if name.lower() in FRAMING_HEADERS:
        raise bad_request(f"The header {name} is set by Pointsman and cannot be overridden.")


def _can_be_sent(headers: Mapping[str, str]) -> bool:
    """Whether nothing is wrong with any of them, found out all at once.

    A line break in one would add to the count.
    """
    names, values = "\n".join(headers), "\n".join(headers.values())
    return (
        names.count("\n") == values.count("\n") == len(headers) - 1
        and _TOKENS.fullmatch(names) is not None
        and _FIELD_VALUES.fullmatch(values) is not None
        and FRAMING_HEADERS.isdisjoint(map(str.lower, headers))
    )


def _text(raw: bytes) -> str:
    """A header's bytes as text that JSON and PostgreSQL can store: UTF-8, or else latin-1."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text if text.isprintable() else _CONTROL_BUT_TAB.sub("\N{REPLACEMENT CHARACTER}", text)
