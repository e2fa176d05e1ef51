"""The public trigger URLs: resolve, deduplicate, record, answer.

The body is opaque bytes; nothing here looks into it. Verification and limits have their place between resolve and
deduplicate.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from uuid import UUID

import orjson
from flask import Blueprint, Request, Response, jsonify, request

from api import environ
from api.deferred import Deferred, defer
from api.ingress.deduplicate import key_of
from api.ingress.parts import IngressParts, parts
from api.ingress.record import NewTrigger
from api.ingress.reply import Reply, preferred_wait_seconds
from api.ingress.resolve import Snapshot, must_be_active
from api.ingress.status import read_status
from api.urls import CUSTOM_PREFIX, TOKEN_PREFIX
from shared.errors import NotFound
from shared.ids import new_id

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
HOP_HEADERS = frozenset(
    {"connection", "transfer-encoding"}
)  # of the connection, not of the message: not stored

ingress = Blueprint("ingress", __name__)


@ingress.route(TOKEN_PREFIX + "<token>", methods=METHODS, provide_automatic_options=False)
def by_token(token: str) -> Response:
    """ANY /t/{triggerToken}: record a call of a callback's trigger URL."""
    own = parts()
    return _accept(own, _known() or own.resolver.by_token(token), own.urls.by_token(token))


@ingress.route(CUSTOM_PREFIX + "<path>", methods=METHODS, provide_automatic_options=False)
def by_path(path: str) -> Response:
    """ANY /c/{customPath}: the same, by a path that the user chose."""
    own = parts()
    return _accept(own, _known() or own.resolver.by_path(path), own.urls.by_path(path))


@ingress.get(TOKEN_PREFIX + "<token>/<trigger_id>")
def status_by_token(token: str, trigger_id: str) -> Response:
    """GET /t/{triggerToken}/{triggerId}: status and times of one trigger, nothing else."""
    return _status(parts().resolver.by_token(token), trigger_id)


@ingress.get(CUSTOM_PREFIX + "<path>/<trigger_id>")
def status_by_path(path: str, trigger_id: str) -> Response:
    """GET /c/{customPath}/{triggerId}: the same, by the custom path."""
    return _status(parts().resolver.by_path(path), trigger_id)


def _known() -> Snapshot | None:
    """The callback, where the shell had it at hand."""
    found: Snapshot | None = request.environ.get(environ.CALLBACK)
    return found


def _accept(own: IngressParts, snapshot: Snapshot, trigger_url: str) -> Response:
    must_be_active(snapshot)
    # past Flask's proxies, of which each look costs as much as a small function
    called: Request = request._get_current_object()  # type: ignore[attr-defined]
    patience = called.environ.get(environ.PATIENCE)
    if patience is not None:
        patience.hold()  # from here on the trigger may be recorded, and the caller is told how that ends
    wait_seconds = preferred_wait_seconds(called.headers.get("prefer"), snapshot.timeout_ms)
    trigger = _new_trigger(called, snapshot, own.settings.idempotency_seconds, awaited=wait_seconds > 0)
    loop = called.environ.get(environ.LOOP)
    committed = own.recorder.record(trigger) if loop is None else own.recorder.record_on(loop, trigger)
    reply = Reply(
        outcomes=own.outcomes,
        trigger_url=trigger_url,
        request_id=called.environ[environ.REQUEST_ID],
        user_id=snapshot.user_id,
        wait_seconds=wait_seconds,
        waiting=own.outcomes.wait(trigger.id, snapshot.user_id, wait_seconds) if wait_seconds else None,
        from_cache=trigger.key is not None and not trigger.key.is_callers,
    )
    return defer(Deferred(committed, reply.after_commit, own.settings.accept_timeout_seconds))


def _new_trigger(
    called: Request, snapshot: Snapshot, idempotency_seconds: float, *, awaited: bool
) -> NewTrigger:
    body = called.environ.get(environ.BODY)
    if body is None:
        body = called.get_data(cache=False)
    return NewTrigger(
        id=new_id(),
        callback_id=snapshot.callback_id,
        user_id=snapshot.user_id,
        method=called.method,
        path=called.path,
        query=called.query_string.decode("latin-1"),
        headers=orjson.dumps(_headers(called)).decode(),
        content_type=called.content_type,
        body=body,
        source_ip=_address(called.remote_addr),
        key=key_of(
            called.headers.get("idempotency-key"),
            called.method,
            called.query_string,
            body,
            cache_period_seconds=snapshot.cache_period_seconds,
            lifetime_seconds=idempotency_seconds,
        ),
        awaited=awaited,
    )


def _headers(called: Request) -> list[tuple[str, str]]:
    """The headers as they came, names in lower case."""
    raw = called.environ.get(environ.HEADERS)
    if raw is None:
        named = [(name.lower(), value) for name, value in called.headers.items()]
    else:
        named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    return [pair for pair in named if pair[0] not in HOP_HEADERS]


@lru_cache(1_024)
def _address(text: str | None) -> str | None:
    """The caller's address in its usual form, None when it has none."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def _status(snapshot: Snapshot, trigger_id: str) -> Response:
    try:
        wanted = UUID(trigger_id)
    except ValueError:
        raise NotFound("This is not a trigger's id.") from None
    status = read_status(parts().engine, snapshot.callback_id, wanted)
    if status is None:
        raise NotFound("This callback has no such trigger.")
    response = jsonify(status)
    response.headers["cache-control"] = "no-store"
    return response
