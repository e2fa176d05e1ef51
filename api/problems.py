"""Errors as RFC 9457 problem documents.

Every error that leaves the API is one:
`{"type","title","status","detail","code","hint","requestId"}`. Foreign exceptions are translated
here, once; their text is never shown, since it may hold SQL or secrets.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson
import psycopg2
import structlog
from flask import Flask, Response, has_request_context, request
from psycopg2.errors import CheckViolation, LockNotAvailable
from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api import environ
from api.urls import logged_path
from shared.errors import Invalid, NotFound, PointsmanError, Refused, RowRejected, Unavailable
from shared.postgres.group_commit import is_transient

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "urn:pointsman:problem:"

log = structlog.get_logger("api")


def problem(
    status: int,
    code: str,
    detail: str,
    hint: str,
    request_id: str | None,
    *,
    retry_after_seconds: int | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    """One problem as status, headers and body, for whoever has no Flask at hand."""
    headers = [("content-type", CONTENT_TYPE), ("cache-control", "no-store")]
    if retry_after_seconds is not None:
        headers.append(("retry-after", str(retry_after_seconds)))
    if request_id is not None:
        headers.append(("x-request-id", request_id))
    body = {
        "type": TYPE_BASE + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "requestId": request_id,
    }
    return status, headers, orjson.dumps(body)


def of_error(error: PointsmanError, request_id: str | None) -> tuple[int, list[tuple[str, str]], bytes]:
    """The problem of one of our own errors."""
    return problem(
        error.status,
        error.code,
        error.message,
        error.hint,
        request_id,
        retry_after_seconds=error.retry_after_seconds,
    )


def _response(error: PointsmanError) -> Response:
    status, headers, body = of_error(error, request.environ.get(environ.REQUEST_ID))
    response = Response(body, status=status)
    response.headers.clear()
    response.headers.extend(headers)
    return response


def translate(error: Exception, path: str | None = None) -> PointsmanError:
    """Our error for a foreign one. What nobody foresaw becomes an internal error and is logged
    whole.

    path: what was called, where that is not Flask's current request.
    """
    match error:
        case RowRejected() if isinstance(error.__cause__, CheckViolation):
            log.error("no_partition", hint="the partitions of today are missing, or a clock is far off")
            return Unavailable("There is no place to record the trigger now.")
        case PointsmanError():
            return error
        case DataError() | psycopg2.DataError():
            return Invalid(
                "A value cannot be stored.",
                code="unstorable",
                hint="Remove NUL characters and oversized numbers.",
            )
        case OperationalError() if isinstance(error.orig, LockNotAvailable):
            return Unavailable("Somebody else holds what this call needs.")
        case OperationalError() | PoolTimeoutError():
            return Unavailable("PostgreSQL is not available.")
        case DBAPIError() if error.connection_invalidated:
            return Unavailable("PostgreSQL is not available.")
        case psycopg2.Error() if is_transient(error):
            return Unavailable("PostgreSQL is not available, or busy with what this call needs.")
        case ValueError() if "NUL" in str(error) or "surrogate" in str(error):
            return Invalid("A value holds a NUL or a broken character.", code="unstorable")
        case HTTPException():
            return _of_werkzeug(error)
        case _:
            where = request.path if has_request_context() else path
            log.error("request_broken", path=where and logged_path(where), exc_info=error)
            return PointsmanError("Something went wrong inside Pointsman.")


def _of_werkzeug(error: HTTPException) -> PointsmanError:
    if error.code == HTTPStatus.NOT_FOUND:
        return NotFound("There is nothing at this address.", hint="See docs/api.md for the routes.")
    status = error.code or 500
    refused = Refused(error.description or HTTPStatus(status).phrase, code=HTTPStatus(status).name.lower())
    refused.status = status
    return refused


def of_validation(error: ValidationError) -> Invalid:
    """Our error for a request that does not fit its model: the first field that is wrong."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the body"
    return Invalid(f"{field}: {first['msg']}.", hint=f"Fix {field}.")


def install(app: Flask) -> None:
    """Let every error of this application leave as a problem."""

    @app.errorhandler(Exception)
    def on_error(error: Exception) -> Response:
        response = _response(translate(error))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["allow"] = ", ".join(sorted(error.valid_methods))
        return response
