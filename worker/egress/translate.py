"""What a foreign exception means, as an EgressError.

Invariant: the table names each public exception class of aiohttp (a test finds the one that a new
version adds) and the standard library's around it. Of a foreign text nothing is repeated but what
the operating system and OpenSSL say in words of their own.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from aiohttp import client_exceptions as client
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError
from aiohttp.streams import EofStream

from worker.egress.addresses import BlockedAddress
from worker.egress.errors import Code, EgressError, Phase


class Rule(NamedTuple):
    """What an exception means before the first byte of the request was sent, and after."""

    before_send: Code
    after_send: Code


def _always(code: Code) -> Rule:
    return Rule(code, code)


_BROKEN = Rule("connect_failed", "connection_closed")
_UNUSABLE = Rule("bad_request", "bad_response")

TABLE: dict[type[BaseException], Rule] = {
    # connecting
    client.ClientConnectorError: _always("connect_failed"),
    client.ClientProxyConnectionError: _always("connect_failed"),
    client.UnixClientConnectorError: _always("connect_failed"),
    client.ClientHttpProxyError: _always("connect_failed"),
    client.ClientConnectorDNSError: _always("dns_failed"),
    client.ClientSSLError: _always("tls_failed"),
    client.ClientConnectorSSLError: _always("tls_failed"),
    client.ClientConnectorCertificateError: _always("tls_failed"),
    client.ServerFingerprintMismatch: _always("tls_failed"),
    # a connection that breaks
    client.ClientError: _BROKEN,
    client.ClientConnectionError: _BROKEN,
    client.ClientConnectionResetError: _BROKEN,
    client.ClientOSError: _BROKEN,
    client.ServerConnectionError: _BROKEN,
    client.ServerDisconnectedError: _BROKEN,
    client.ClientPayloadError: _always("connection_closed"),
    client.UploadAbortedError: _always("connection_closed"),
    ContentLengthError: _always("connection_closed"),
    TransferEncodingError: _always("connection_closed"),  # the last chunk never came
    EofStream: _always("connection_closed"),
    # time
    client.ServerTimeoutError: _always("timeout"),
    client.ConnectionTimeoutError: _always("timeout"),
    client.SocketTimeoutError: _always("timeout"),
    # what the receiver sends
    client.ClientResponseError: _always("bad_response"),
    client.ContentTypeError: _always("bad_response"),
    client.WSServerHandshakeError: _always("bad_response"),
    client.WSMessageTypeError: _always("bad_response"),
    client.TooManyRedirects: _always("bad_response"),
    client.RedirectClientError: _always("bad_response"),
    client.InvalidUrlRedirectClientError: _always("bad_response"),
    client.NonHttpUrlRedirectClientError: _always("bad_response"),
    HttpProcessingError: _always("bad_response"),
    # what we were asked to send
    client.InvalidURL: _always("bad_request"),
    client.InvalidUrlClientError: _always("bad_request"),
    client.NonHttpUrlClientError: _always("bad_request"),
    # the standard library
    BlockedAddress: _always("blocked_address"),
    socket.gaierror: _always("dns_failed"),
    socket.herror: _always("dns_failed"),
    ssl.SSLError: _always("tls_failed"),
    TimeoutError: _always("timeout"),
    EOFError: _always("connection_closed"),
    OSError: _BROKEN,
    UnicodeError: _UNUSABLE,
    ValueError: _UNUSABLE,
    TypeError: _UNUSABLE,
    Exception: _BROKEN,  # uvloop raises RuntimeError where asyncio raises OSError
}

# What lies deeper in the chain of causes says more than the exception that wraps it.
_DECISIVE = (BlockedAddress, ssl.SSLError, socket.gaierror)

_DOING: dict[Phase, str] = {
    "resolve": "while its name was looked up",
    "connect": "while connecting",
    "send": "while the request was sent",
    "receive": "while waiting for the whole response",
}


def translate(
    error: BaseException, *, destination: str, phase: Phase, reused_and_silent: bool = False
) -> EgressError:
    """Say what a foreign exception means.

    destination: host and port, free of userinfo, path and query. reused_and_silent: the connection
    had served an earlier request and not one byte came on it for this one.
    """
    chain = list(_chain(error))
    telling = next((link for link in chain if isinstance(link, _DECISIVE)), chain[0])
    rule = _rule(telling)
    code = rule.before_send if phase in ("resolve", "connect") else rule.after_send
    if code == "connection_closed" and any(_is_malformed(link) for link in chain):
        code = "bad_response"
    return EgressError(
        code,
        _describe(code, destination, phase, chain),
        phase=phase,
        reused_connection_closed=reused_and_silent and code == "connection_closed",
        cause=" < ".join(type(link).__name__ for link in chain),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from.

    What merely came before (__context__) says nothing.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _rule(error: BaseException) -> Rule:
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def _is_malformed(error: BaseException) -> bool:
    return isinstance(error, HttpProcessingError) and _rule(error).after_send == "bad_response"


def _describe(code: Code, destination: str, phase: Phase, chain: list[BaseException]) -> str:
    match code:
        case "blocked_address":
            blocked = next((link for link in chain if isinstance(link, BlockedAddress)), None)
            leads_to = blocked.leads_to if blocked else "an address that is not public"
            return f"{destination} leads to {leads_to}; deliveries to it are not allowed."
        case "dns_failed":
            return f"The name in {destination} could not be resolved."
        case "connect_failed":
            return f"Could not connect to {destination}{_system_reason(chain)}."
        case "tls_failed":
            return f"No secure connection to {destination}{_tls_reason(chain)}."
        case "timeout":
            return f"{destination} took too long: the time was up {_DOING[phase]}."
        case "connection_closed":
            return f"{destination} closed the connection {_DOING[phase]}."
        case "bad_response":
            return f"The response of {destination} is not valid HTTP, or its headers are too large."
        case "bad_request":
            return f"The request to {destination} holds something that cannot be sent."


def _system_reason(chain: list[BaseException]) -> str:
    for link in reversed(chain):
        if isinstance(link, OSError) and link.errno and not isinstance(link, (ssl.SSLError, socket.gaierror)):
            return f": {os.strerror(link.errno).lower()}"
    return ""


def _tls_reason(chain: list[BaseException]) -> str:
    """OpenSSL's own words: its messages and the name we asked for, nothing that a peer sent."""
    for link in reversed(chain):
        # Only the exceptions that OpenSSL raised have these; those that Python code made have not.
        if message := getattr(link, "verify_message", None):
            return f": certificate not accepted ({message})"
        if isinstance(link, ssl.SSLError) and (reason := getattr(link, "reason", None)):
            return f": {reason.replace('_', ' ').lower()}"
    return ""
