"""The HTTP_POST action: what is sent, and what an answer means."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from shared.crypto import SecretBox, new_key, new_signing_secret
from shared.errors import Invalid
from shared.ids import new_id
from tests.unit.worker.engine.test_steps import new_action
from worker.actions import attempt
from worker.actions.contract import AttemptContext, Callback, Doors, Limits, Trigger
from worker.actions.http_post import classify, prepare
from worker.egress.errors import EgressError
from worker.egress.http import HttpResponse

BOX = SecretBox(new_key())
BODY = b'{"a": 1}'


def context(
    *secrets: str, body: bytes = BODY, content_type: str | None = "application/json"
) -> AttemptContext:
    return AttemptContext(
        trigger=Trigger(
            id=new_id(),
            callback_id=UUID(int=1),
            user_id=UUID(int=2),
            method="POST",
            path="/t/x",
            query="",
            headers="[]",
            content_type=content_type,
            body=body,
            received_at=datetime.now(UTC),
        ),
        callback=Callback(UUID(int=1), UUID(int=2), "name", "http://callback.example/", 1234, secrets),
        execution_id=new_id(),
        attempt=3,
        sent_at=int(time.time()),
        secrets=BOX,
        limits=Limits(max_response_bytes=99, max_stored_item_bytes=9, max_stored_items=9),
    )


def prepared(config: dict[str, Any], given: AttemptContext | None = None) -> Any:
    return prepare(replace(new_action(), config=config), given or context())


def test_the_body_passes_through_under_the_executions_identity() -> None:
    given = context()
    action = replace(new_action(), config={"target": "callback_url"})
    request = prepare(action, given)
    assert (request.method, request.url, request.body) == ("POST", "http://callback.example/", BODY)
    assert (request.timeout_ms, request.max_response_bytes, request.tenant) == (1234, 99, str(UUID(int=2)))
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == str(given.execution_id)
    assert request.headers["webhook-timestamp"] == str(given.sent_at)
    assert request.headers["pointsman-attempt"] == "3"
    assert request.headers["pointsman-trigger-id"] == str(given.trigger.id)
    assert request.headers["pointsman-action-id"] == str(action.id)
    assert "webhook-signature" not in request.headers, "a callback without a secret is not signed"


def test_every_secret_in_force_signs() -> None:
    secrets = [new_signing_secret(), new_signing_secret()]
    request = prepared({"url": "http://x/"}, context(*map(BOX.encrypt, secrets)))
    for secret in secrets:
        assert Webhook(secret).verify(request.body.decode(), dict(request.headers)) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ("text", b"text", "text/plain; charset=utf-8"),
        ({"b": 10**30}, None, "application/json"),
        ([1], None, "application/json"),
    ],
)
def test_an_own_body_is_sent_instead(body: Any, sent: bytes | None, content_type: str) -> None:
    request = prepared({"url": "http://x/", "body": body})
    assert request.body == (sent if sent is not None else json.dumps(body).encode())
    assert request.headers["content-type"] == content_type


def test_own_headers_are_sent_and_may_name_the_content_type() -> None:
    request = prepared({"url": "http://x/", "headers": {"X-Own": "1", "Content-Type": "text/csv"}})
    assert (request.headers["x-own"], request.headers["content-type"]) == ("1", "text/csv")


@pytest.mark.parametrize(
    "config", [{}, {"url": "ftp://x"}, {"url": "http://x/", "headers": {"Webhook-Id": "1"}}]
)
def test_a_config_that_cannot_work_is_invalid_again_at_the_attempt(config: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        prepared(config)


def test_a_secret_that_does_not_decrypt_fails_the_attempt_for_good() -> None:
    with pytest.raises(Invalid) as error:
        prepared({"url": "http://x/"}, context("unreadable"))
    assert "Set the secret again" in error.value.hint


def answer(status: int, body: bytes = b"", truncated: bool = False, **headers: str) -> HttpResponse:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpResponse(status, named, body, truncated)


@pytest.mark.parametrize(
    ("status", "success", "retryable", "gone"),
    [
        (200, True, False, False),
        (204, True, False, False),
        (299, True, False, False),
        (301, False, False, False),
        (308, False, False, False),
        (400, False, False, False),
        (404, False, False, False),
        (408, False, True, False),
        (410, False, False, True),
        (425, False, True, False),
        (429, False, True, False),
        (500, False, True, False),
        (503, False, True, False),
    ],
)
def test_what_a_status_means(status: int, success: bool, retryable: bool, gone: bool) -> None:
    outcome = classify(answer(status))
    assert (outcome.success, outcome.retryable, outcome.gone, outcome.status_code) == (
        success,
        retryable,
        gone,
        status,
    )
    assert (outcome.error is None) == success


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("999999999999999", 86400),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("\u0663", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert classify(answer(503, retry_after=value)).retry_after_seconds == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = classify(answer(503, Retry_After=later)).retry_after_seconds
    assert found is not None
    assert 55 <= found <= 60
    assert classify(answer(503, retry_after="Mon, 01 Jan 1990 00:00:00 GMT")).retry_after_seconds == 0


@pytest.mark.parametrize(
    ("body", "truncated", "kept", "encoding"),
    [
        (b"plain", False, "plain", None),
        ("caf\u00e9".encode(), False, "caf\u00e9", None),
        ("caf\u00e9".encode()[:-1], True, "caf", None),
        ("caf\u00e9".encode()[:-1], False, "Y2Fmww==", "base64"),
        (b"a\x00b", False, "YQBi", "base64"),
        (b"\xff\xfe", True, "//4=", "base64"),
        (b"", False, "", None),
    ],
)
def test_what_is_kept_of_a_body_can_always_be_stored(
    body: bytes, truncated: bool, kept: str, encoding: str | None
) -> None:
    response = classify(answer(200, body, truncated)).response
    assert response is not None
    assert (response["body"], response.get("bodyEncoding"), response["truncated"]) == (
        kept,
        encoding,
        truncated,
    )


def test_only_a_few_headers_are_kept() -> None:
    response = classify(answer(200, b"", Content_Type="x" * 900, Set_Cookie="canary", Location="/l")).response
    assert response is not None
    assert response["headers"] == {"content-type": "x" * 500, "location": "/l"}


def test_a_failed_call_says_why_and_whether_to_try_again() -> None:
    timeout = classify(EgressError("timeout", "took too long", phase="receive"))
    assert (timeout.success, timeout.code, timeout.retryable) == (False, "timeout", True)
    assert not classify(EgressError("blocked_address", "not allowed")).retryable


def test_a_flawed_or_unknown_action_fails_without_a_call() -> None:

    doors: Any = Doors(egress=None, storage=None)  # type: ignore[arg-type]
    for action in (
        replace(new_action(), flaw="cannot be read"),
        replace(new_action(), type="SLACK"),
        new_action(),
    ):
        outcome = asyncio.run(attempt(action, context(), doors))
        assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)
