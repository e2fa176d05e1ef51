"""Every error leaves as one kind of document, and none shows a foreign text."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg2
import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from psycopg2.errors import CheckViolation
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import exc
from structlog.testing import capture_logs
from werkzeug import exceptions
from werkzeug.test import TestResponse

from api import environ, problems
from shared import errors
from shared.errors import Invalid, NotFound, PointsmanError, Refused, TooMany, Unavailable

CANARY = "canary-hunter2"
MEMBERS = {"type", "title", "status", "detail", "code", "hint", "requestId"}


ALL_ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PointsmanError)
]


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_each_of_our_errors_is_a_whole_problem(kind: type[PointsmanError]) -> None:
    status, headers, body = problems.of_error(kind("What went wrong."), "r1")
    document = orjson.loads(body)
    assert set(document) == MEMBERS
    assert all(isinstance(document[member], str) and document[member] for member in MEMBERS - {"status"})
    assert (document["status"], document["code"], document["requestId"]) == (status, kind.code, "r1")
    assert (document["type"], document["detail"]) == (
        f"urn:pointsman:problem:{kind.code}",
        "What went wrong.",
    )
    named = dict(headers)
    assert (named["content-type"], named["cache-control"]) == ("application/problem+json", "no-store")
    assert named["x-request-id"] == "r1"
    assert ("retry-after" in named) == issubclass(kind, Unavailable | TooMany), "it says when to come back"


def test_no_two_kinds_of_error_share_a_code() -> None:
    assert len({kind.code for kind in ALL_ERRORS}) == len(ALL_ERRORS) > 5


def test_a_problem_without_a_request_id_says_so() -> None:
    _, headers, body = problems.of_error(NotFound("x"), None)
    assert orjson.loads(body)["requestId"] is None
    assert "x-request-id" not in dict(headers)


def broken_by(kind: Any, cause: Exception, invalidated: bool = False) -> Exception:
    error: Exception = kind(
        f"SELECT {CANARY}", {"p": CANARY}, cause, False, connection_invalidated=invalidated
    )
    return error


@pytest.mark.parametrize(
    ("foreign", "status", "code"),
    [
        (broken_by(exc.DataError, psycopg2.DataError(CANARY)), 422, "unstorable"),
        (broken_by(exc.OperationalError, psycopg2.OperationalError(CANARY)), 503, "unavailable"),
        (broken_by(exc.InterfaceError, psycopg2.InterfaceError(CANARY), True), 503, "unavailable"),
        (broken_by(exc.InterfaceError, psycopg2.InterfaceError(CANARY)), 500, "internal_error"),
        (broken_by(exc.IntegrityError, psycopg2.IntegrityError(CANARY)), 500, "internal_error"),
        (psycopg2.errors.LockNotAvailable(CANARY), 503, "unavailable"),
        (psycopg2.errors.QueryCanceled(CANARY), 503, "unavailable"),
        (psycopg2.errors.DeadlockDetected(CANARY), 503, "unavailable"),
        (psycopg2.OperationalError(CANARY), 503, "unavailable"),
        (psycopg2.DataError(CANARY), 422, "unstorable"),
        (psycopg2.IntegrityError(CANARY), 500, "internal_error"),
        (exc.TimeoutError(CANARY), 503, "unavailable"),
        (ValueError(f"A string literal cannot contain NUL (0x00) characters. {CANARY}"), 422, "unstorable"),
        (UnicodeEncodeError("utf-8", CANARY + "\ud800", 0, 1, "surrogates not allowed"), 422, "unstorable"),
        (ValueError(CANARY), 500, "internal_error"),
        (KeyError(CANARY), 500, "internal_error"),
        (exceptions.NotFound(), 404, "not_found"),
        (exceptions.MethodNotAllowed(), 405, "method_not_allowed"),
        (exceptions.UnsupportedMediaType(), 415, "unsupported_media_type"),
        (exceptions.BadRequest(), 400, "bad_request"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_foreign_error_is_translated_and_its_text_is_never_shown(
    foreign: Exception, status: int, code: str
) -> None:
    with capture_logs():
        found_status, _, body = problems.of_error(problems.translate(foreign), "r1")
    assert (found_status, orjson.loads(body)["code"]) == (status, code)
    assert CANARY.encode() not in body


def test_what_nobody_foresaw_is_logged_whole_and_what_is_ours_is_not() -> None:
    unforeseen = KeyError(CANARY)
    with capture_logs() as logged:
        problems.translate(unforeseen)
        problems.translate(NotFound("x"))
        problems.translate(exceptions.NotFound())
    assert [(line["event"], line["exc_info"]) for line in logged] == [("request_broken", unforeseen)]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"/t/{CANARY}", "/t/***"),
        (f"/c/{CANARY}/0192aaaa-0000-7000-8000-000000000001", "/c/***"),
        ("/api/v1/callbacks", "/api/v1/callbacks"),
        ("/t", "/t"),
        (None, None),
    ],
)
def test_what_is_logged_names_no_trigger_url(path: str | None, told: str | None) -> None:
    """Whoever knows one can call it."""
    with capture_logs() as logged:
        problems.translate(KeyError("x"), path)
    assert [line["path"] for line in logged] == [told]


def test_our_own_error_stays_itself() -> None:
    ours = Refused("x")
    assert problems.translate(ours) is ours


def test_a_status_of_one_request_does_not_become_the_status_of_the_next() -> None:
    """Fails when the status of a werkzeug error is set on the class."""
    assert problems.translate(exceptions.MethodNotAllowed()).status == 405
    assert Refused("x").status == 400


class Order(BaseModel):
    number: int = Field(ge=1)


class Basket(BaseModel):
    orders: list[Order]
    name: str = Field(max_length=3)


def refusal_of(value: Any) -> Invalid:
    with pytest.raises(ValidationError) as error:
        Basket.model_validate(value)
    return problems.of_validation(error.value)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"orders": [{"number": 1}, {"number": 0}], "name": "x"}, "orders.1.number"),
        ({"orders": [], "name": CANARY}, "name"),
        ({"name": "x"}, "orders"),
        ([CANARY], "the body"),
    ],
)
def test_the_first_wrong_field_is_named_and_its_value_is_not_repeated(value: Any, field: str) -> None:
    refusal = refusal_of(value)
    assert refusal.message.startswith(f"{field}: ")
    assert refusal.hint == f"Fix {field}."
    assert CANARY not in refusal.message + refusal.hint


@pytest.fixture
def app() -> Flask:
    app = Flask("test")
    problems.install(app)

    @app.route("/ours", methods=["PUT", "DELETE"])
    def ours() -> Any:
        raise Unavailable("PostgreSQL is not available.")

    @app.get("/broken")
    def broken() -> Any:
        raise RuntimeError(CANARY)

    @app.get("/aborted")
    def aborted() -> Any:
        abort(403)

    @app.get("/misfit")
    def misfit() -> Any:
        try:
            Basket.model_validate({})
        except ValidationError as error:
            raise problems.of_validation(error) from None

    return app


def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base[environ.REQUEST_ID] = "r7"
    return client


def document_of(answer: TestResponse) -> dict[str, Any]:
    assert answer.headers.getlist("content-type") == ["application/problem+json"]
    assert answer.headers["content-length"] == str(len(answer.data))
    document: dict[str, Any] = orjson.loads(answer.data)
    assert (document["status"], document["requestId"]) == (answer.status_code, "r7")
    return document


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/broken", 500, "internal_error"),
        ("/aborted", 403, "forbidden"),
        ("/misfit", 422, "invalid"),
        ("/nowhere", 404, "not_found"),
    ],
)
def test_whatever_a_view_raises_leaves_as_a_problem(app: Flask, path: str, status: int, code: str) -> None:
    with capture_logs():
        answer = client(app).get(path)
    assert (answer.status_code, document_of(answer)["code"]) == (status, code)
    assert CANARY not in answer.text


def test_a_wrong_method_is_told_the_right_ones(app: Flask) -> None:
    answer = client(app).get("/ours")
    assert (answer.status_code, document_of(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, OPTIONS, PUT"


def test_what_is_away_says_when_to_come_back(app: Flask) -> None:
    answer = client(app).put("/ours")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert document_of(answer)["code"] == "unavailable"


def test_a_missing_partition_is_503_and_not_a_fault_of_the_request() -> None:
    """Fails when its callers are told never to repeat what a later minute would take."""
    rejected = errors.RowRejected("This cannot be stored.")
    rejected.__cause__ = CheckViolation("no partition of relation found for row")
    with capture_logs() as logged:
        error = problems.translate(rejected)
    assert (error.status, error.code) == (503, "unavailable")
    assert [line["event"] for line in logged] == ["no_partition"]
    assert problems.translate(errors.RowRejected("a NUL")).status == 422
