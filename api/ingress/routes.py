"""The public trigger URLs.

A view only reads the request; what follows is awaited (accept.py, head.py, status.py).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import orjson
from flask import Blueprint, Request, Response, request

from api import environ
from api.awaited import awaited
from api.ingress.accept import accept
from api.ingress.call import Call
from api.ingress.head import head
from api.ingress.parts import parts
from api.ingress.status import status_of
from api.urls import CUSTOM_PREFIX, LOOKS, TOKEN_PREFIX
from shared.masks import CREDENTIAL_HEADERS, MASK

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
STATUS_METHODS = ["GET", "HEAD", "OPTIONS"]

# These belong to the connection and not to the message, so that they are not stored.
HOP_HEADERS = frozenset({b"connection", b"transfer-encoding"})

# What callers prove themselves with. That it was there is recorded, what it was is not.
MASKED = {b"authorization": MASK, b"cookie": MASK, b"proxy-authorization": MASK}

ingress = Blueprint("ingress", __name__)


@ingress.route(TOKEN_PREFIX + "<token>", methods=METHODS, provide_automatic_options=False)
def by_token(token: str) -> Response:
    """ANY /t/{triggerToken}: record a call of a callback's trigger URL; HEAD and OPTIONS only
    look at it.
    """
    return _accept(TOKEN_PREFIX + token)


@ingress.route(CUSTOM_PREFIX + "<path>", methods=METHODS, provide_automatic_options=False)
def by_path(path: str) -> Response:
    """ANY /c/{customPath}: the same, by a path that the user chose."""
    return _accept(CUSTOM_PREFIX + path)


@ingress.route(TOKEN_PREFIX + "<token>/<trigger_id>", methods=STATUS_METHODS, provide_automatic_options=False)
def status_by_token(token: str, trigger_id: str) -> Response:
    """GET /t/{triggerToken}/{triggerId}: status and times of one trigger, nothing else."""
    return _status(TOKEN_PREFIX + token, trigger_id)


@ingress.route(CUSTOM_PREFIX + "<path>/<trigger_id>", methods=STATUS_METHODS, provide_automatic_options=False)
def status_by_path(path: str, trigger_id: str) -> Response:
    """GET /c/{customPath}/{triggerId}: the same, by the custom path."""
    return _status(CUSTOM_PREFIX + path, trigger_id)


def _accept(address: str) -> Response:
    own = parts()
    # past Flask's proxies, of which each look costs as much as a small function
    called: Request = request._get_current_object()  # type: ignore[attr-defined]
    if called.method in LOOKS:
        return _head(called, address)
    return awaited(accept(_call(called, address, own.urls.base + address), own))


def _head(called: Request, address: str) -> Response:
    if called.method == "OPTIONS":
        return _allowing(METHODS)
    return awaited(head(address, called.environ[environ.REQUEST_ID], parts()))


def _status(address: str, trigger_id: str) -> Response:
    if request.method == "OPTIONS":
        return _allowing(STATUS_METHODS)
    return awaited(status_of(address, trigger_id, request.environ[environ.REQUEST_ID], parts()))


def _allowing(methods: list[str]) -> Response:
    """What OPTIONS hears, a browser's preflight too: without CORS headers it lets no page call."""
    response = Response(status=204)
    response.headers.clear()
    response.headers["allow"] = ", ".join(methods)
    return response


def _call(called: Request, address: str, trigger_url: str) -> Call:
    given = called.environ
    body = given.get(environ.BODY)
    headers, credentials = _headers(called)
    return Call(
        address=address,
        trigger_url=trigger_url,
        request_id=given[environ.REQUEST_ID],
        method=called.method,
        path=called.path,
        query=given.get("QUERY_STRING", ""),
        headers=orjson.dumps(headers).decode(),
        content_type=given.get("CONTENT_TYPE"),
        body=called.get_data(cache=False) if body is None else body,
        source_ip=_address(given.get("REMOTE_ADDR")),
        prefer=given.get("HTTP_PREFER"),
        idempotency_key=given.get("HTTP_IDEMPOTENCY_KEY"),
        via=given.get("HTTP_POINTSMAN_VIA"),
        caller=given.get(environ.CALLER),
        credentials=credentials,
    )


def _headers(called: Request) -> tuple[list[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """The headers as they came, names in lower case and credentials masked; and these."""
    raw: list[tuple[bytes, bytes]] | None = called.environ.get(environ.HEADERS)
    if raw is None:
        raw = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in called.headers.items()
        ]
    shown = [
        (name.decode("latin-1"), MASKED.get(name) or value.decode("latin-1"))
        for name, value in raw
        if name not in HOP_HEADERS
    ]
    if MASKED.keys().isdisjoint(name for name, _ in raw):
        return shown, ()
    credentials = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    return shown, tuple(pair for pair in credentials if pair[0] in CREDENTIAL_HEADERS)


@lru_cache(1_024)
def _address(text: str | None) -> str | None:
    """The caller's address in its usual form, None when it has none."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None
