"""What foreign exceptions become: one code, and a message without any foreign text."""

from __future__ import annotations

import errno
import inspect
import socket
import ssl
from typing import Any, get_args

import pytest
from aiohttp import RequestInfo
from aiohttp import client_exceptions as client
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import (
    BadStatusLine,
    ContentLengthError,
    HttpProcessingError,
    LineTooLong,
    TransferEncodingError,
)
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from worker.egress.addresses import BlockedAddress
from worker.egress.errors import Code, EgressError, Phase
from worker.egress.translate import TABLE, translate

SECRET = "hunter2"
SECRET_URL = f"https://user:{SECRET}@example.com/{SECRET}?token={SECRET}"
DESTINATION = "example.com:443"
KEY = ConnectionKey("example.com", 443, True, True, None, None, None, None)

PUBLIC_EXCEPTIONS = [
    value
    for name, value in vars(client).items()
    if inspect.isclass(value)
    and issubclass(value, BaseException)
    and value.__module__ == client.__name__
    and not name.startswith("_")
]


def caused(outer: BaseException, *causes: BaseException) -> BaseException:
    link = outer
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return outer


def translated(error: BaseException, phase: Phase = "receive", **more: Any) -> EgressError:
    return translate(error, destination=DESTINATION, phase=phase, **more)


@pytest.mark.parametrize("kind", PUBLIC_EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_the_table_names_every_exception_of_aiohttp(kind: type[BaseException]) -> None:
    assert kind in TABLE, f"{kind.__name__} is new: say in worker/egress/translate.py what it means"


def test_the_introspection_sees_what_aiohttp_exports() -> None:
    assert {getattr(client, name) for name in client.__all__} <= set(PUBLIC_EXCEPTIONS)


def test_every_rule_gives_a_known_code() -> None:
    assert {code for rule in TABLE.values() for code in rule} <= set(get_args(Code))


CASES: list[tuple[BaseException, Phase, Code]] = [
    (TimeoutError(), "resolve", "timeout"),
    (TimeoutError(), "receive", "timeout"),
    (client.ConnectionTimeoutError(SECRET_URL), "connect", "timeout"),
    (socket.gaierror(socket.EAI_NONAME, "unknown"), "resolve", "dns_failed"),
    (client.ClientConnectorDNSError(KEY, OSError(None, "x")), "resolve", "dns_failed"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connect", "connect_failed"),
    (client.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "x")), "connect", "connect_failed"),
    (RuntimeError("unable to perform operation; the handler is closed"), "connect", "connect_failed"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "connect", "tls_failed"),
    (ssl.SSLCertVerificationError(1, "x"), "connect", "tls_failed"),
    (client.ClientConnectorSSLError(KEY, ssl.SSLError(1, "x")), "connect", "tls_failed"),
    (client.ClientConnectorCertificateError(KEY, ssl.CertificateError("x")), "connect", "tls_failed"),
    (client.ServerDisconnectedError(), "receive", "connection_closed"),
    (client.ClientOSError(errno.ECONNRESET, SECRET_URL), "send", "connection_closed"),
    (client.ClientConnectionResetError("Cannot write"), "send", "connection_closed"),
    (BrokenPipeError(errno.EPIPE, "x"), "send", "connection_closed"),
    (EOFError(), "receive", "connection_closed"),
    (client.ClientPayloadError(SECRET), "receive", "connection_closed"),
    (caused(client.ClientPayloadError(SECRET), ContentLengthError("x")), "receive", "connection_closed"),
    (caused(client.ClientPayloadError(SECRET), TransferEncodingError("x")), "receive", "connection_closed"),
    (caused(client.ClientPayloadError(SECRET), LineTooLong(SECRET, 1)), "receive", "bad_response"),
    (HttpProcessingError(code=400, message=SECRET), "receive", "bad_response"),
    (BadStatusLine(SECRET), "receive", "bad_response"),
    (ValueError(SECRET), "receive", "bad_response"),
    (client.InvalidURL(SECRET_URL), "resolve", "bad_request"),
    (client.InvalidUrlClientError(SECRET_URL), "resolve", "bad_request"),
    (client.NonHttpUrlClientError(SECRET_URL), "resolve", "bad_request"),
    (ValueError(SECRET_URL), "resolve", "bad_request"),
    (UnicodeEncodeError("idna", SECRET_URL, 0, 1, "label too long"), "resolve", "bad_request"),
    (TypeError(SECRET), "resolve", "bad_request"),
    (BlockedAddress("127.0.0.1"), "connect", "blocked_address"),
    # what lies deeper says more than what wraps it
    (caused(client.ClientConnectorError(KEY, OSError()), BlockedAddress("x")), "connect", "blocked_address"),
    (
        caused(
            client.ClientConnectorDNSError(KEY, OSError()), BlockedAddress("10.0.0.1", "a private address")
        ),
        "resolve",
        "blocked_address",
    ),
    (
        caused(
            Exception("httpx"),
            client.ClientConnectionError(),
            BlockedAddress("10.0.0.1", "a private address"),
        ),
        "connect",
        "blocked_address",
    ),
    (caused(client.ClientConnectorError(KEY, OSError()), ssl.SSLError(1, "x")), "connect", "tls_failed"),
    (caused(client.ClientOSError(), ssl.SSLError(1, "bad record mac")), "receive", "tls_failed"),
]


@pytest.mark.parametrize(
    ("error", "phase", "code"), CASES, ids=[f"{type(e).__name__}-{p}-{c}" for e, p, c in CASES]
)
def test_foreign_exceptions_become_one_code(error: BaseException, phase: Phase, code: Code) -> None:
    found = translated(error, phase)
    assert (found.code, found.phase) == (code, phase)
    assert found.permanent == (code in ("blocked_address", "bad_request"))
    assert SECRET not in found.message
    assert SECRET not in str(found)
    assert SECRET not in found.cause
    assert DESTINATION in found.message


def test_a_response_error_names_no_url() -> None:
    info = RequestInfo(URL(SECRET_URL), "GET", CIMultiDictProxy(CIMultiDict[str]()), URL(SECRET_URL))
    error = client.ClientResponseError(info, (), status=400, message=SECRET)
    assert SECRET in str(error)
    found = translated(error)
    assert found.code == "bad_response"
    assert SECRET not in found.message


def test_what_merely_happened_before_says_nothing() -> None:
    error = TimeoutError()
    error.__context__ = BlockedAddress("127.0.0.1")
    assert translated(error).code == "timeout"


def test_a_chain_that_bites_its_tail_ends() -> None:
    error = caused(client.ClientOSError(), OSError())
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    assert translated(error).code == "connection_closed"


def test_a_kept_alive_connection_that_had_closed_is_told_apart() -> None:
    assert translated(client.ServerDisconnectedError(), reused_and_silent=True).reused_connection_closed
    assert not translated(client.ServerDisconnectedError()).reused_connection_closed
    assert not translated(TimeoutError(), reused_and_silent=True).reused_connection_closed


def test_messages_say_what_helps() -> None:
    refused = OSError(errno.ECONNREFUSED, SECRET)
    error = translated(caused(client.ClientConnectorError(KEY, refused), refused), "connect")
    assert error.message == "Could not connect to example.com:443: connection refused."
    assert error.cause == "ClientConnectorError < ConnectionRefusedError"
