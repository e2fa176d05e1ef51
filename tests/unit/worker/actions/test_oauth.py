"""What is sent to a token server, and what its answer means."""

from __future__ import annotations

import base64
import json
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.actions.oauth import (
    DEFAULT_LIFE_SECONDS,
    MAX_LIFE_SECONDS,
    Grant,
    no_token,
    read_token,
    token_request,
)
from worker.egress.errors import EgressError
from worker.egress.messages import HttpResponse
from worker.egress.tokens import NoToken, Token

SECRET = "s3cret:/+ \u00e9&<"
GRANT = Grant("https://login.example/token?p=1", "cli:ent", SECRET, "a b", "https://api", False, "tenant-1")


def answer(body: Any, status: int = 200, truncated: bool = False, **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpResponse(status, named, raw, truncated)


def refusal(response: HttpResponse, grant: Grant = GRANT) -> NoToken:
    found = read_token(response, grant)
    assert isinstance(found, NoToken)
    return found


def test_a_client_shows_itself_in_a_header() -> None:
    request = token_request(GRANT)
    assert (request.method, request.url, request.tenant) == ("POST", GRANT.token_url, "tenant-1")
    assert (request.timeout_ms, request.max_response_bytes) == (5_000, 64 * 1024)
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["a b"],
        "audience": ["https://api"],
    }
    scheme, _, pair = request.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    client_id, _, secret = base64.b64decode(pair).decode().partition(":")
    assert (unquote_plus(client_id), unquote_plus(secret)) == ("cli:ent", SECRET)


def test_or_in_the_form() -> None:
    request = token_request(GRANT._replace(in_body=True, scope=None, audience=None))
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["cli:ent"],
        "client_secret": [SECRET],
    }
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("said", "life"),
    [
        ({"expires_in": 3600}, 3600),
        ({"expires_in": "60"}, 60),
        ({"expires_in": 0.5}, 0.5),
        ({}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": None}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": 0}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": -1}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": "soon"}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": [1]}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": float("nan")}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": 10**400}, DEFAULT_LIFE_SECONDS),
        ({"expires_in": 10**9}, MAX_LIFE_SECONDS),
    ],
)
def test_how_long_a_token_is_good(said: dict[str, Any], life: float) -> None:
    assert read_token(answer({"access_token": "t0k", **said}), GRANT) == Token("t0k", life)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_called_so_in_any_case(kind: str) -> None:
    found = read_token(answer({"access_token": "t0k", "token_type": kind}, 201), GRANT)
    assert isinstance(found, Token)
    assert found.value == "t0k"


@pytest.mark.parametrize(
    ("response", "retryable"),
    [
        (answer({"error": "invalid_client"}, 401), False),
        (answer({"error": "invalid_scope"}, 400), False),
        (answer({"error": "unauthorized_client"}, 403), False),
        (answer({"error": "invalid_client"}, 429), True),
        (answer({"error": "invalid_client"}, 500), True),
        # in nobody's words: what stands before a token server, or a deploy of it
        (answer({"error": {"code": 7}, "error_description": ["x"]}, 400), True),
        (answer({"error": "of our own"}, 400), True),
        (answer(b"", 403), True),
        (answer(b"<h1>no such page</h1>", 404), True),
        (answer(b"", 302, location="https://evil.example/"), True),
        (answer(b"", 408), True),
        (answer(b"", 429), True),
        (answer(b"", 500), True),
        (answer(b"busy", 503), True),
        (answer(b"<html>", 200), True),
        (answer([], 200), True),
        (answer({}, 200), True),
        (answer({"access_token": 7}, 200), True),
        (answer({"access_token": ""}, 200), True),
        (answer({"access_token": "a b"}, 200), True),
        (answer({"access_token": "a\r\nx: y"}, 200), True),
        (answer({"access_token": "t" * 8_001}, 200), True),
        (answer({"access_token": "t0k"}, 200, truncated=True), True),
        (answer({"access_token": "t0k", "token_type": "mac"}, 200), False),
        (answer(b"[" * 50_000, 200), True),
    ],
)
def test_whether_asking_again_could_help(response: HttpResponse, retryable: bool) -> None:
    error = refusal(response)
    assert error.retryable is retryable
    assert "t0k" not in error.message


def test_what_the_token_server_asks_for_is_heard() -> None:
    assert refusal(answer(b"", 429, retry_after="7")).retry_after_seconds == 7


def test_an_error_is_told_in_the_servers_words() -> None:
    said = {"error": "invalid_client", "error_description": "No such client.\nAsk us."}
    message = refusal(answer(said, 401)).message
    assert message == "The token server answered 401 (invalid_client: No such client. Ask us.)."


def spellings(grant: Grant) -> list[str]:
    pair = base64.b64encode(
        f"{quote(grant.client_id, safe='')}:{quote(grant.client_secret, safe='')}".encode()
    )
    secret = grant.client_secret
    return [
        secret,
        secret.upper(),
        quote(secret),
        quote_plus(secret),
        quote_plus(secret).lower(),
        pair.decode(),
        escape(secret),
    ]


@pytest.mark.parametrize("spelling", spellings(GRANT))
@pytest.mark.parametrize("place", ["error", "error_description"])
def test_what_it_repeats_of_a_secret_is_masked(spelling: str, place: str) -> None:
    said = {"error": "invalid_client", "error_description": "x", place: f"not {spelling}, {spelling}!"}
    message = refusal(answer(said, 400)).message
    assert spelling not in message
    assert "s3cret" not in message.lower()
    assert "not ***, ***!" in message


def test_and_so_is_everything_else_that_was_sent() -> None:
    said = {"error": "invalid_request", "error_description": "cli:ent https://api a b"}
    message = refusal(answer(said, 400)).message
    assert "cli:ent" not in message
    assert "https://api" not in message


def test_and_so_is_what_the_token_url_holds() -> None:
    """Fails when a server that names the URL it was called by tells what meta shows as a mask."""
    grant = GRANT._replace(token_url="https://login.example/token?policy=p0l%2Ficy&t0k3n")
    for said in ("/token?policy=p0l%2Ficy&t0k3n", "p0l/icy and t0k3n", "P0L/ICY"):
        message = refusal(answer({"error": "invalid_request", "error_description": said}, 400), grant).message
        assert "p0l" not in message.lower()
        assert "t0k3n" not in message


def test_the_standards_own_words_stay_whatever_was_sent() -> None:
    said = {"error": "invalid_client", "error_description": "client is unknown"}
    message = refusal(answer(said, 401), GRANT._replace(client_id="client")).message
    assert message == "The token server answered 401 (invalid_client: *** is unknown)."


def test_a_secret_too_short_to_be_masked_lets_nothing_be_told() -> None:
    said = {"error": "invalid_client", "error_description": "abc is wrong"}
    message = refusal(answer(said, 401), GRANT._replace(client_secret="abc")).message
    assert message == "The token server answered 401."


@given(st.text(max_size=2_000), st.text(max_size=2_000))
def test_whatever_it_says_is_short_printable_and_without_the_secret(error: str, description: str) -> None:
    said = {"error": error, "error_description": f"{description}{SECRET}{description}"}
    message = refusal(answer(said, 400)).message
    assert len(message) < 300
    assert message.isprintable()
    assert SECRET not in message


@pytest.mark.parametrize(
    ("code", "retryable"), [("timeout", True), ("connect_failed", True), ("blocked_address", False)]
)
def test_a_token_server_that_cannot_be_asked(code: Any, retryable: bool) -> None:
    error = no_token(EgressError(code, "login.example:443 took too long."))
    assert error.retryable is retryable
    assert error.message == "The token server could not be asked: login.example:443 took too long."


def test_a_grant_never_shows_itself() -> None:
    assert repr(GRANT) == str(GRANT) == "Grant(tenant='tenant-1')"
