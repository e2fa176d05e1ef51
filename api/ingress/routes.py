"""The public trigger URLs: resolve, record, answer.

The body is opaque bytes; nothing here looks into it. Verification, limits and deduplication have their
place between resolve and record.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from uuid import UUID

import orjson
import structlog
from flask import Blueprint, Response, g, jsonify, request
from psycopg2.errors import CheckViolation

from api.deferred import Answer, Deferred, defer, is_abandoned
from api.ingress.record import NewTrigger
from api.ingress.resolve import Snapshot, must_be_active
from api.ingress.status import read_status
from api.problems import of_error, translate
from api.services import services
from shared import metrics
from shared.errors import NotFound, PointsmanError, Unavailable
from shared.ids import new_id

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
HOP_HEADERS = frozenset(
    {"connection", "transfer-encoding"}
)  # of the connection, not of the message: not stored

log = structlog.get_logger("ingress")

ingress = Blueprint("ingress", __name__)


@ingress.route("/t/<token>", methods=METHODS, provide_automatic_options=False)
def by_token(token: str) -> Response:
    """ANY /t/{triggerToken}: record a call of a callback's trigger URL."""
    return _accept(services().resolver.by_token(token), f"/t/{token}")


@ingress.route("/c/<path>", methods=METHODS, provide_automatic_options=False)
def by_path(path: str) -> Response:
    """ANY /c/{customPath}: the same, by a path that the user chose."""
    return _accept(services().resolver.by_path(path), f"/c/{path}")


@ingress.get("/t/<token>/<trigger_id>")
def status_by_token(token: str, trigger_id: str) -> Response:
    """GET /t/{triggerToken}/{triggerId}: status and times of one trigger, nothing else."""
    return _status(services().resolver.by_token(token), trigger_id)


@ingress.get("/c/<path>/<trigger_id>")
def status_by_path(path: str, trigger_id: str) -> Response:
    """GET /c/{customPath}/{triggerId}: the same, by the custom path."""
    return _status(services().resolver.by_path(path), trigger_id)


def _accept(snapshot: Snapshot, url_path: str) -> Response:
    must_be_active(snapshot)
    if is_abandoned():
        raise Unavailable("The callback could not be looked up in time.")
    trigger = _new_trigger(snapshot)
    return defer(
        Deferred(
            future=services().recorder.record(trigger),
            respond=_Accepted(trigger.id, url_path, g.request_id, services().settings.base_url),
            timeout_seconds=services().settings.accept_timeout_seconds,
        )
    )


class _Accepted:
    """Makes the answer once the commit is decided. Called outside the request, so it holds what it needs."""

    def __init__(self, trigger_id: UUID, url_path: str, request_id: str, base_url: str) -> None:
        self._trigger_id = trigger_id
        self._url_path = url_path
        self._request_id = request_id
        self._base_url = base_url

    def __call__(self, outcome: Any) -> Answer:
        if isinstance(outcome, Exception):
            error = self._translated(outcome)
            metrics.triggers_refused.labels(error.code).inc()
            return of_error(error, self._request_id)
        body = {
            "triggerId": str(self._trigger_id),
            "status": "PENDING",
            "statusUrl": f"{self._base_url}{self._url_path}/{self._trigger_id}",
        }
        headers = [("content-type", "application/json"), ("x-request-id", self._request_id)]
        return 202, headers, orjson.dumps(body)

    @staticmethod
    def _translated(outcome: Exception) -> PointsmanError:
        if isinstance(outcome, TimeoutError):
            return Unavailable("The trigger could not be committed in time.")
        if isinstance(outcome.__cause__, CheckViolation):
            log.error("no_partition", hint="the partitions of today are missing, or a clock is far off")
            return Unavailable("There is no place to record the trigger now.")
        return translate(outcome)


def _new_trigger(snapshot: Snapshot) -> NewTrigger:
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_HEADERS]
    return NewTrigger(
        id=new_id(),
        callback_id=snapshot.callback_id,
        user_id=snapshot.user_id,
        method=request.method,
        path=request.path,
        query=request.query_string.decode("latin-1"),
        headers=orjson.dumps(headers).decode(),
        content_type=request.content_type,
        body=request.get_data(cache=False),
        source_ip=_source_ip(),
    )


def _source_ip() -> str | None:
    try:
        return str(ipaddress.ip_address(request.remote_addr or ""))
    except ValueError:
        return None


def _status(snapshot: Snapshot, trigger_id: str) -> Response:
    try:
        wanted = UUID(trigger_id)
    except ValueError:
        raise NotFound("This is not a trigger's id.") from None
    status = read_status(services().engine, snapshot.callback_id, wanted)
    if status is None:
        raise NotFound("This callback has no such trigger.")
    response = jsonify(status)
    response.headers["cache-control"] = "no-store"
    return response
