"""The HTTP_POST action: what is sent, and what an answer means."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.action_types.http_message import FORBIDDEN_HEADERS, is_reserved
from shared.action_types.http_post import seal
from shared.crypto import SecretBox, new_key
from shared.errors import Invalid
from shared.ids import new_id
from shared.seals import sealed_url
from shared.signatures import new_signing_secret, public_key, sign, signing_key
from tests.prepared import prepare
from tests.prepared import request_of_kind as prepare_post
from tests.unit.worker.engine.test_steps import new_action
from worker.actions import perform
from worker.actions.contract import AttemptStamp, ExecutionContext, Limits, Outcome, Prepared
from worker.actions.http_post import Delivered, stamped
from worker.actions.http_post import classify as classify_post
from worker.actions.http_post import perform as perform_post
from worker.doors import Doors
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import HttpRequest, HttpResponse
from worker.records import CallbackRecord, SigningSecret, TriggerRecord

BOX = SecretBox(new_key())
BODY = b'{"a": 1}'
STAMP = AttemptStamp(number=3, sent_at=int(time.time()))
IDENTITY = {
    *("webhook-id", "webhook-timestamp", "webhook-signature"),
    *("pointsman-trigger-id", "pointsman-action-id", "pointsman-attempt", "pointsman-via"),
}


def context(
    body: bytes = BODY,
    content_type: str | None = "application/json",
    headers: str = "[]",
) -> ExecutionContext:
    return ExecutionContext(
        trigger=TriggerRecord(
            id=new_id(),
            callback_id=UUID(int=1),
            user_id=UUID(int=2),
            method="POST",
            path="/t/x",
            query="",
            headers=headers,
            content_type=content_type,
            body=body,
            received_at=datetime.now(UTC),
        ),
        callback=CallbackRecord(UUID(int=1), UUID(int=2), "name", 1234),
        execution_id=new_id(),
        secrets=BOX,
        limits=Limits(max_response_bytes=99, max_stored_item_bytes=9, max_stored_items=9),
    )


def classify(end: HttpResponse | EgressError) -> Outcome:
    """How an attempt ends for which all of 2xx is success."""
    return classify_post(end if isinstance(end, EgressError) else Delivered(end, None))


def signed_by(*secrets: str, ends_at: float | None = None) -> dict[str, Any]:
    """What of an action says so. ends_at: of all but the first."""
    ends = (None, *[ends_at] * len(secrets))
    return {"signing_secrets": tuple(map(SigningSecret, map(BOX.encrypt, secrets), ends))}


def request_of(
    config: dict[str, Any], given: ExecutionContext | None = None, stamp: AttemptStamp = STAMP, **changes: Any
) -> HttpRequest:
    """The request of an attempt of such an action."""
    action = replace(new_action(), config=config, **changes)
    return stamped(prepare_post(action, given or context()), stamp)


def test_the_body_passes_through_under_the_executions_identity() -> None:
    given = context()
    action = replace(new_action(), config={"target": "callback_url"})
    request = stamped(prepare_post(action, given), STAMP)
    assert (request.method, request.url, request.body) == ("POST", "http://callback.example/", BODY)
    assert (request.timeout_ms, request.max_response_bytes, request.tenant) == (1234, 99, str(UUID(int=2)))
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == str(given.execution_id)
    assert request.headers["webhook-timestamp"] == str(STAMP.sent_at)
    assert request.headers["pointsman-attempt"] == "3"
    assert request.headers["pointsman-trigger-id"] == str(given.trigger.id)
    assert request.headers["pointsman-action-id"] == str(action.id)
    assert "webhook-signature" not in request.headers, "a callback without a secret is not signed"


def test_every_secret_in_force_signs() -> None:
    secrets = [new_signing_secret(), new_signing_secret()]
    request = request_of({"url": "http://x/"}, **signed_by(*secrets))
    for secret in secrets:
        assert Webhook(secret).verify(request.body.decode(), dict(request.headers)) == {"a": 1}


def test_an_old_secret_signs_until_its_end_whenever_it_was_read() -> None:
    """Fails when expiry is looked at when an attempt is prepared: it can wait, and be repeated."""
    new, old = new_signing_secret(), new_signing_secret()
    action = replace(new_action(), config={"url": "http://x/"}, **signed_by(new, old, ends_at=1_000.5))
    post = prepare_post(action, context())

    def signed_at(moment: int) -> str:
        return stamped(post, AttemptStamp(1, moment)).headers["webhook-signature"]

    def signed_with(*secrets: str, moment: int) -> str:
        return sign(list(map(signing_key, secrets)), post.webhook_id, moment, post.body)

    for moment in (0, 999, 1_000):
        assert signed_at(moment) == signed_with(new, old, moment=moment), "the newest first"
    for moment in (1_001, 2_000):
        assert signed_at(moment) == signed_with(new, moment=moment)


def test_both_schemes_sign_the_same_delivery() -> None:
    symmetric, private = new_signing_secret("v1"), new_signing_secret("v1a")
    request = request_of({"url": "http://x/"}, **signed_by(private, symmetric))
    first, second = request.headers["webhook-signature"].split(" ")
    assert (first[:4], second[:3]) == ("v1a,", "v1,")
    assert Webhook(symmetric).verify(request.body.decode(), dict(request.headers)) == {"a": 1}
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key(private).removeprefix("whpk_")))
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    key.verify(base64.b64decode(first[4:]), signed + request.body)


def test_a_sealed_config_and_a_sealed_url_are_opened() -> None:
    config = {"url": "http://x/p?key=1", "headers": {"X-Own": "secret"}}
    request = request_of(seal(config, BOX.encrypt))
    assert (request.url, request.headers["x-own"]) == ("http://x/p?key=1", "secret")
    sealed = sealed_url("http://callback.example/p?key=2", BOX.encrypt)
    primary = request_of({"target": "callback_url"}, callback_url=sealed)
    assert primary.url == "http://callback.example/p?key=2"


def test_a_callers_credential_is_opened_anew_each_time() -> None:
    """Fails when strangers fill the memory of secrets with what is never asked for again, and push
    out those of all tenants.
    """
    box = SecretBox(new_key())
    recorded = json.dumps([["authorization", box.encrypt("Bearer of a caller")]])
    config = {"url": "http://x/", "headers": {"x-own": box.encrypt("of the action")}}
    given = context(headers=recorded)._replace(secrets=box)
    for _ in range(2):
        request = request_of({**config, "forwardHeaders": ["authorization"]}, given)
        assert request.headers["authorization"] == "Bearer of a caller"
    assert set(box._decrypted.values()) == {"of the action"}


FORWARDING = {"url": "http://x/", "forwardHeaders": ["authorization", "cookie", "x-plain"]}


def called_with(**headers: str) -> ExecutionContext:
    """A call that shows these; credentials are recorded sealed."""
    named = {name: BOX.encrypt(value) if name != "x_plain" else value for name, value in headers.items()}
    return context(headers=json.dumps([[name.replace("_", "-"), value] for name, value in named.items()]))


def secrets_of(config: dict[str, Any], given: ExecutionContext) -> Any:
    return prepare_post(replace(new_action(), config=config), given).secrets


def test_what_a_receiver_could_repeat_of_credentials_is_known_whoever_sets_them() -> None:
    pair = base64.b64encode(b"me:secret-of-mine").decode()
    cookie = "a=cookie-one-of-two; consent=accepted"
    found = secrets_of(
        FORWARDING, called_with(authorization=f"Basic  {pair}", cookie=cookie, x_plain="plain-enough")
    )
    assert set(found) == {
        *(f"Basic  {pair}", pair, "me:secret-of-mine", "secret-of-mine"),
        *(cookie, "cookie-one-of-two"),
    }, "nothing that stands in any answer by chance"
    own = {
        "url": "http://x/",
        "headers": {"Authorization": "Bearer own-token-of-it", "x-own": "of-the-action"},
    }
    assert set(secrets_of(own, context())) == {"Bearer own-token-of-it", "own-token-of-it"}
    latin = base64.b64encode("me:tr\xe8s-secret-one".encode("latin-1")).decode()
    assert "tr\xe8s-secret-one" in secrets_of(FORWARDING, called_with(authorization=f"basic {latin}"))


@pytest.mark.parametrize(
    "cookie", ["; ".join(f"a{n}=value-of-some-{n}" for n in range(99)), "a=" + "x" * 9_000]
)
def test_what_takes_too_long_to_be_searched_for_hides_the_whole_answer(cookie: str) -> None:
    """Fails when a caller thinks up secrets by the thousand, and a worker's loop looks for each."""
    assert secrets_of(FORWARDING, called_with(cookie=cookie)) is None

    class Repeating:
        async def request(self, request: HttpRequest) -> HttpResponse:
            headers = (("server", cookie), ("retry-after", "5"))
            return HttpResponse(200, headers, cookie.encode(), truncated=False)

    post = prepare_post(replace(new_action(), config=FORWARDING), called_with(cookie=cookie))
    delivered = asyncio.run(perform_post(post, STAMP, cast(Egress, Repeating())))
    assert isinstance(delivered, Delivered)
    assert delivered.response.body == b"***"
    assert delivered.response.headers == (("retry-after", "5"),)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_credential_of_other_bytes_than_ascii_is_masked_as_it_was_sent(encoding: str) -> None:
    """Fails when it is looked for in other bytes than it left in."""
    sent = "a=tr\xe8s-secret-cookie".encode(encoding)
    recorded = called_with(cookie=sent.decode("latin-1"))
    post = prepare_post(replace(new_action(), config=FORWARDING), recorded)

    class Repeating:
        async def request(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(200, (), b"<" + request.opaque["cookie"][0] + b">", truncated=False)

    delivered = asyncio.run(perform_post(post, STAMP, cast(Egress, Repeating())))
    assert isinstance(delivered, Delivered)
    assert delivered.response.body == b"<***>"


@pytest.mark.parametrize("place", ["url", "header", "callback"])
def test_a_secret_that_no_key_opens_ends_the_execution(place: str) -> None:
    lost = SecretBox(new_key()).encrypt("/lost")
    configs: dict[str, dict[str, Any]] = {
        "url": {"url": f"http://x {lost}"},
        "header": {"url": "http://x/", "headers": {"X-Own": lost}},
        "callback": {"target": "callback_url"},
    }
    action = replace(new_action(), config=configs[place], callback_url=f"http://x {lost}")
    outcome = prepare(action, context())
    assert isinstance(outcome, Outcome)
    assert (outcome.code, outcome.retryable) == ("bad_config", False)
    assert "cannot be decrypted" in str(outcome.error)
    assert "lost" not in str(outcome.error)


def test_what_is_prepared_shows_no_secret_wherever_it_is_logged() -> None:
    """Fails when the decrypted keys, a header or the URL stand in a log beside an execution."""
    secret = new_signing_secret()
    config = {"url": "http://x/canary", "headers": {"Authorization": "canary"}, "body": "canary"}
    post = prepare_post(replace(new_action(), config=config, **signed_by(secret)), context())
    assert repr(post) == str(post) == f"Post(webhook_id={post.webhook_id})"


def test_a_wrong_secret_or_a_changed_body_does_not_verify() -> None:
    secret = new_signing_secret()
    request = request_of({"url": "http://x/"}, **signed_by(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_signing_secret()).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a": 2}', dict(request.headers))


@pytest.mark.parametrize("name", sorted(FORBIDDEN_HEADERS | IDENTITY))
def test_no_spelling_of_a_header_that_pointsman_sets_is_taken(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        with pytest.raises(Invalid):
            request_of({"url": "http://x/", "headers": {spelling: "1"}})


def test_every_header_of_its_identity_is_forbidden_to_tenants() -> None:
    """Fails when a header is added to the identity and not to what a config may not set."""
    sent = request_of({"url": "http://x/"}, **signed_by(new_signing_secret())).headers
    assert sent.keys() - {"user-agent", "content-type"} == IDENTITY
    assert all(map(is_reserved, IDENTITY))


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ("text", b"text", "text/plain; charset=utf-8"),
        ({"b": 10**30}, None, "application/json"),
        ([1], None, "application/json"),
    ],
)
def test_an_own_body_is_sent_instead(body: Any, sent: bytes | None, content_type: str) -> None:
    request = request_of({"url": "http://x/", "body": body})
    assert request.body == (sent if sent is not None else json.dumps(body, separators=(",", ":")).encode())
    assert request.headers["content-type"] == content_type


def test_own_headers_are_sent_and_may_name_the_content_type() -> None:
    request = request_of({"url": "http://x/", "headers": {"X-Own": "1", "Content-Type": "text/csv"}})
    assert (request.headers["x-own"], request.headers["content-type"]) == ("1", "text/csv")


@pytest.mark.parametrize(
    "config", [{}, {"url": "ftp://x"}, {"url": "http://x/", "headers": {"Webhook-Id": "1"}}]
)
def test_a_config_that_cannot_work_is_invalid_again_at_the_attempt(config: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        request_of(config)


def test_a_secret_that_does_not_decrypt_fails_the_attempt_for_good() -> None:
    with pytest.raises(Invalid) as error:
        request_of({"url": "http://x/"}, signing_secrets=(SigningSecret("unreadable"),))
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
        (101, False, True, False),
        (301, False, True, False),
        (308, False, True, False),
        (400, False, True, False),
        (404, False, True, False),
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


def test_an_outcome_holds_what_the_receiver_asks_for_and_what_is_kept_of_its_answer() -> None:
    outcome = classify(answer(503, b"busy", retry_after="120"))
    assert outcome.retry_after_seconds == 120
    assert outcome.response == {
        "statusCode": 503,
        "headers": {"retry-after": "120"},
        "truncated": False,
        "body": "busy",
    }


def test_a_redirect_and_a_410_say_what_to_do() -> None:
    assert "final URL" in (classify(answer(302, location="/elsewhere")).error or "")
    assert "not to be called again" in (classify(answer(410)).error or "")


def test_a_flawed_or_unknown_action_fails_without_a_call() -> None:
    for action in (
        replace(new_action(), flaw="cannot be read"),
        replace(new_action(), type="SLACK"),
        new_action(),
    ):
        outcome = prepare(action, context())
        assert isinstance(outcome, Outcome)
        assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)


class Answering:
    """An egress that answers, or fails, as it is told."""

    def __init__(self, end: HttpResponse | EgressError) -> None:
        self.end = end
        self.requests: list[HttpRequest] = []

    async def request(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if isinstance(self.end, EgressError):
            raise self.end
        return self.end


def attempted(
    end: HttpResponse | EgressError, config: dict[str, Any], given: ExecutionContext, **changes: Any
) -> Outcome:
    prepared = prepare(replace(new_action(), config=config, **changes), given)
    if isinstance(prepared, Outcome):
        return prepared
    return asyncio.run(perform(prepared, STAMP, Doors({Egress: cast(Egress, Answering(end))})))


@pytest.mark.parametrize(
    "end", [answer(200, b"{}"), EgressError("connect_failed", "refused", phase="connect")]
)
def test_one_attempt_is_one_request(end: HttpResponse | EgressError) -> None:
    egress = Answering(end)
    doors = Doors({Egress: cast(Egress, egress)})
    given, action = context(), replace(new_action(), config={"target": "callback_url"})
    prepared = prepare(action, given)
    assert isinstance(prepared, Prepared)
    outcome = asyncio.run(perform(prepared, STAMP, doors))
    assert egress.requests == [stamped(prepare_post(action, given), STAMP)]
    assert outcome.success == isinstance(end, HttpResponse)


def test_a_timeout_says_how_long_was_waited() -> None:
    outcome = attempted(EgressError("timeout", "Too slow."), {"url": "http://x/"}, context())
    assert (outcome.code, outcome.retryable) == ("timeout", True)
    assert outcome.error == "Too slow. The callback's timeoutDuration is 1234 ms."


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("blocked_address", False),
        ("bad_request", False),
        ("dns_failed", True),
        ("connect_failed", True),
        ("tls_failed", True),
        ("connection_closed", True),
        ("bad_response", True),
    ],
)
def test_what_a_call_that_failed_means(code: Any, retryable: bool) -> None:
    outcome = attempted(EgressError(code, "why"), {"url": "http://x/"}, context())
    assert (outcome.success, outcome.code, outcome.error, outcome.retryable) == (
        False,
        code,
        "why",
        retryable,
    )
    assert (outcome.status_code, outcome.response, outcome.gone) == (None, None, False)


@given(st.sampled_from(sorted(IDENTITY)), st.data())
def test_a_tenant_cannot_pass_for_pointsman(name: str, data: st.DataObject) -> None:
    """Neither a config that parses nor one written past the API names the sender's own headers."""
    spelling = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name)
    config = {"url": "http://x/", "headers": {spelling: "forged"}}
    outcome = attempted(answer(200), config, context(), **signed_by(new_signing_secret()))
    assert (outcome.success, outcome.code) == (False, "bad_config")


def test_every_attempt_has_the_same_id_and_its_own_time_and_number() -> None:
    secret = new_signing_secret()
    post = prepare_post(replace(new_action(), config={"url": "http://x/"}, **signed_by(secret)), context())
    later = AttemptStamp(number=4, sent_at=STAMP.sent_at + 30)
    one, other = stamped(post, STAMP), stamped(post, later)
    assert one.headers["webhook-id"] == other.headers["webhook-id"]
    assert int(other.headers["webhook-timestamp"]) - int(one.headers["webhook-timestamp"]) == 30
    assert (one.headers["pointsman-attempt"], other.headers["pointsman-attempt"]) == ("3", "4")
    assert one.headers["webhook-signature"] != other.headers["webhook-signature"]
    assert Webhook(secret).verify(other.body.decode(), dict(other.headers)) == {"a": 1}


@given(st.binary(max_size=200))
def test_any_body_passes_through_byte_for_byte_and_is_signed_as_it_is(body: bytes) -> None:
    secret = new_signing_secret()
    request = request_of({"url": "http://x/"}, context(body=body), **signed_by(secret))
    assert request.body == body
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


def test_an_own_body_is_what_is_signed() -> None:
    secret = new_signing_secret()
    request = request_of({"url": "http://x/", "body": {"own": True}}, **signed_by(secret))
    assert Webhook(secret).verify(request.body.decode(), dict(request.headers)) == {"own": True}


@pytest.mark.parametrize(
    ("body", "sent"), [("", b""), ({}, b"{}"), ([], b"[]"), ("caf\u00e9", "caf\u00e9".encode())]
)
def test_an_empty_body_of_ones_own_is_a_body(body: Any, sent: bytes) -> None:
    """Fails when «nothing given» is told by falsehood: the trigger's body would leak to another
    receiver.
    """
    assert request_of({"url": "http://x/", "body": body}).body == sent


def test_a_body_without_a_type_is_just_bytes() -> None:
    request = request_of({"url": "http://x/"}, context(content_type=None))
    assert request.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("body", [{"a": float("inf")}, [float("nan")]])
def test_a_number_that_json_cannot_hold_fails_the_attempt_alone(body: Any) -> None:
    """A config written past the API: jsonb keeps 1e999, Python reads it as infinity."""
    outcome = attempted(answer(200), {"url": "http://x/", "body": body}, context())
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)


@pytest.mark.parametrize("secret", ["whsec_abc", "whsec_caf\u00e9", "whsk_YWJj"])
def test_a_secret_that_is_no_key_fails_the_attempt_alone(secret: str) -> None:
    """It decrypts, and then it is not base64."""
    outcome = attempted(answer(200), {"url": "http://x/"}, context(), **signed_by(secret))
    assert (outcome.success, outcome.code, outcome.retryable) == (False, "bad_config", False)
    assert secret not in (outcome.error or "")


@given(st.integers(100, 599))
def test_every_status_is_either_a_success_or_explained(status: int) -> None:
    outcome = classify(answer(status))
    assert outcome.success == (200 <= status <= 299)
    assert outcome.code == ("ok" if outcome.success else "loop" if status == 508 else f"http_{status}")
    assert outcome.success or str(status) in (outcome.error or "")
    assert outcome.retryable == (not outcome.success and not outcome.gone)
    assert outcome.gone == (status == 410)
