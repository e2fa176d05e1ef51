"""What a credential adds to a request, and what becomes of a token that is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any, cast
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import pytest
import structlog
from structlog.testing import LogCapture

from shared.action_types.http_post import seal
from shared.credentials import KINDS, kind_of
from shared.crypto import SecretBox, new_key
from tests.prepared import prepare, request_of_kind
from tests.unit.worker.actions.test_http_post import BOX, STAMP, answer, context
from tests.unit.worker.engine.test_steps import new_action
from worker.actions import KINDS as KINDS_OF_ACTIONS
from worker.actions import perform
from worker.actions.contract import Outcome, Prepared
from worker.actions.credentials import Sending
from worker.actions.http_post import Post
from worker.doors import Doors
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import ClientIdentity, HttpRequest, HttpResponse
from worker.egress.tokens import Tokens
from worker.records import ActionRecord, CredentialRecord

SECRET = "s3cret & more"
URL = "https://api.example.com/v1?a=1#there"
METAS: dict[str, dict[str, Any]] = {
    "bearer": {},
    "basic": {"username": "us\u00e9r"},
    "header": {"header": "X-Key"},
    "query": {"parameter": "the key"},
    "oauth2": {"tokenUrl": "https://login.example.com/token?p=1", "clientId": "client"},
    "clientCertificate": {"certificate": "the certificate", "ca": "the authority"},
}


def credential(kind: str, secret: str = SECRET, number: int = 1, **meta: Any) -> CredentialRecord:
    known = {"kind": kind, "origins": ["https://api.example.com"], **METAS[kind], **meta}
    sealed = KINDS[kind].seal(
        {name: value for name, value in known.items() if value is not None}, BOX.encrypt
    )
    return CredentialRecord(UUID(int=number), "GENERIC", BOX.encrypt(secret), json.dumps(sealed))


def action(used: CredentialRecord | None, url: str = URL, **config: Any) -> ActionRecord:
    return replace(new_action(), config={"url": url, **config}, credential=used)


def prepared(used: CredentialRecord | None, url: str = URL, **config: Any) -> Post:
    made = prepare(action(used, url, **config), context())
    assert isinstance(made, Prepared), made
    assert isinstance(made.request, Post)
    return made.request


def ended(given: ActionRecord) -> Outcome:
    made = prepare(given, context())
    assert isinstance(made, Outcome)
    return made


def test_every_kind_for_http_has_its_place_here() -> None:
    assert set(METAS) == {name for name, kind in KINDS.items() if kind.provider == "GENERIC"}


@pytest.mark.parametrize(
    ("used", "name", "value"),
    [
        (credential("bearer"), "authorization", f"Bearer {SECRET}"),
        (
            credential("basic", "p\u00e4ss:word"),
            "authorization",
            "Basic " + base64.b64encode("us\u00e9r:p\u00e4ss:word".encode()).decode(),
        ),
        (credential("header"), "x-key", SECRET),
        (credential("header", prefix="Token "), "x-key", f"Token {SECRET}"),
        (credential("header", header="AUTHORIZATION", prefix="Key "), "authorization", f"Key {SECRET}"),
    ],
)
def test_a_secret_goes_into_its_header(used: CredentialRecord, name: str, value: str) -> None:
    for headers in ({}, {name.title(): "the action's own"}):
        post = prepared(used, headers=headers)
        assert post.headers[name] == value
        assert [one for one in post.headers if one.lower() == name] == [name]
        assert (post.url, post.identity, post.access) == (URL, None, None)


@pytest.mark.parametrize("kind", ["bearer", "basic", "oauth2"])
@pytest.mark.parametrize("value", ["the caller's", "the caller\u00b4s"])
def test_what_a_caller_sent_for_itself_does_not_go_beside_it(kind: str, value: str) -> None:
    """Fails when a header that is forwarded is sent in the place of the credential, or twice."""
    recorded = json.dumps([["authorization", value], ["x-other", value]])
    given = action(credential(kind), forwardHeaders=["authorization", "x-other"])
    post = request_of_kind(given, context(headers=recorded))
    assert "authorization" not in post.opaque
    assert "caller" not in post.headers.get("authorization", "")
    assert "x-other" in {**post.headers, **post.opaque}


def test_a_template_fills_the_url_of_an_action_with_a_credential() -> None:
    config = seal({"url": "https://api.example.com/{{ body.a }}?x={{ trigger.method }}"}, BOX.encrypt)
    made = prepare(replace(action(credential("bearer")), config=config), context())
    assert isinstance(made, Prepared), made
    assert made.request.url == "https://api.example.com/1?x=POST"
    assert made.request.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (URL, "https://api.example.com/v1?a=1&the%20key=s3cret%20%26%20more#there"),
        ("https://api.example.com", "https://api.example.com?the%20key=s3cret%20%26%20more"),
        ("https://api.example.com/%2F?%41", "https://api.example.com/%2F?%41&the%20key=s3cret%20%26%20more"),
    ],
)
def test_a_secret_goes_into_the_query_behind_all_else(url: str, sent: str) -> None:
    assert prepared(credential("query"), url).url == sent
    assert parse_qs(urlsplit(sent).query)["the key"] == [SECRET]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com{{ body.to }}/",
        "https://api.example.com{{body.to}}/",
        "https://api.example.com{% if true %}.evil.example{% endif %}/",
        "https://{{ body.host }}/",
        "{{ body.url }}",
        "https://api.example.com:{{ body.port }}/",
    ],
)
def test_no_template_leads_a_credential_elsewhere(url: str) -> None:
    """Fails when a row that was changed behind the API's back is rendered, and then believed."""
    said = {"to": ".evil.example", "host": "evil.example", "url": "https://evil.example/", "port": 444}
    for used in map(credential, METAS):
        made = prepare(action(used, url), context(body=json.dumps(said).encode()))
        assert isinstance(made, Outcome), url
        assert not made.retryable
        assert made.code in ("bad_config", "credential_origin", "template_failed")


@pytest.mark.parametrize(
    "said", ["@evil.example/", "//evil.example/", "\\@evil.example", "?#@evil.example", "/../.."]
)
def test_what_a_caller_says_stays_in_its_place_in_the_path(said: str) -> None:
    config = seal({"url": "https://api.example.com/{{ body.to }}"}, BOX.encrypt)
    given = replace(action(credential("bearer")), config=config)
    made = prepare(given, context(body=json.dumps({"to": said}).encode()))
    assert isinstance(made, Prepared), made
    assert made.request.url == f"https://api.example.com/{quote(said, safe='')}"


def test_a_certificate_is_shown_in_tls_and_nowhere_else() -> None:
    used = credential("clientCertificate")
    post, without = prepared(used), prepared(None)
    assert post.identity == ClientIdentity(
        f"{used.id}/{used.version}", "the certificate", SECRET, "the authority"
    )
    assert {**post.headers, "webhook-id": ""} == {
        **without.headers,
        "webhook-id": "",
        "pointsman-trigger-id": post.headers["pointsman-trigger-id"],
        "pointsman-action-id": post.headers["pointsman-action-id"],
    }
    assert SECRET not in repr(post.identity)


@pytest.mark.parametrize("kind", sorted(METAS))
def test_a_credential_goes_nowhere_but_to_its_origins(kind: str) -> None:
    """Fails when the URL that is about to be sent to is not judged: a row may have been changed
    behind the API's back, and what a template says nobody knows before.
    """
    used = credential(kind)
    for url in (
        "https://api.example.com.evil.example/s3cret",
        "https://api.example.com:444/",
        "https://evil.example/?https://api.example.com",
        "http://api.example.com/",
    ):
        outcome = ended(action(used, url))
        assert (outcome.code, outcome.retryable) == ("credential_origin", False)
        assert "s3cret" not in str(outcome.error)


def test_the_callbacks_own_url_is_judged_too() -> None:
    primary = replace(action(credential("bearer")), config={"target": "callback_url"})
    assert ended(replace(primary, callback_url="https://evil.example/")).code == "credential_origin"
    made = prepare(replace(primary, callback_url="https://api.example.com/x"), context())
    assert isinstance(made, Prepared)


@pytest.mark.parametrize(
    ("provider", "meta"),
    [
        ("GENERIC", "null"),
        ("GENERIC", "[]"),
        ("GENERIC", '{"kind": "smoke", "origins": ["https://api.example.com"]}'),
        ("GENERIC", '{"kind": "basic", "origins": ["https://api.example.com"]}'),
        ("GENERIC", '{"kind": "bearer", "origins": "https://api.example.com"}'),
        ("FROM_A_NEWER_VERSION", "null"),
        ("SLACK", "null"),
        ("TWILIO", '{"accountSid": "AC"}'),
    ],
)
def test_a_row_that_was_changed_by_hand_ends_the_execution(provider: str, meta: str) -> None:
    outcome = ended(action(CredentialRecord(UUID(int=1), provider, BOX.encrypt(SECRET), meta)))
    assert outcome.code in ("bad_config", "credential_unsuitable", "credential_origin")
    assert not outcome.retryable


@pytest.mark.parametrize("place", ["secret", "tokenUrl"])
def test_a_credential_that_no_key_opens_ends_the_execution(place: str) -> None:
    lost, used = SecretBox(new_key()).encrypt("/lost"), credential("oauth2")
    if place == "secret":
        used = replace(used, secret=lost)
    else:
        meta = json.loads(used.meta) | {"tokenUrl": f"https://login.example.com {lost}"}
        used = replace(used, meta=json.dumps(meta))
    outcome = ended(action(used))
    assert (outcome.code, outcome.retryable) == ("bad_config", False)
    assert "cannot be decrypted" in str(outcome.error)


def test_what_is_prepared_with_a_credential_shows_no_secret() -> None:
    for kind in METAS:
        made = prepare(action(credential(kind, "canary")), context())
        assert "canary" not in str(made) + repr(made)
    sending = Sending(
        "https://api.example.com/?canary", {"x": "canary"}, {"y": (b"canary",)}, secrets=("canary",)
    )
    request = HttpRequest("POST", sending.url, sending.headers, b"canary", 1, 1, "t")
    assert "canary" not in f"{sending} {sending!r} {request} {request!r}"


@contextmanager
def logged() -> Iterator[LogCapture]:
    """What is logged meanwhile, tracebacks as they are written."""
    capture, processors = LogCapture(), structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [structlog.processors.format_exc_info, capture]
    try:
        yield capture
    finally:
        processors[:] = before


@pytest.mark.parametrize("kind", sorted(METAS))
def test_a_fault_during_an_attempt_logs_no_secret(kind: str) -> None:
    """Fails when a traceback shows what its frames hold, or a request what it is."""

    class Broken(Door):
        async def request(self, request: HttpRequest) -> HttpResponse:
            raise RuntimeError(f"nobody expects {request!r}, {request}")

    with logged() as said:
        outcome = asyncio.run(attempt(Broken(), credential(kind, "s3cret-canary")))
    assert outcome.code == "internal_error"
    (line,) = said.entries
    assert (line["event"], "nobody expects" in line["exception"]) == ("attempt_broken", True)
    sent = base64.b64encode("us\u00e9r:s3cret-canary".encode()).decode()
    assert not {one for one in ("canary", sent) if one in f"{line} {outcome}"}


@pytest.mark.parametrize("kind", ["bearer", "basic", "header", "query", "oauth2"])
@pytest.mark.parametrize("status", [200, 404])
def test_what_a_receiver_repeats_of_a_credential_is_a_mask(kind: str, status: int) -> None:
    """Fails when a page that shows its callers their request shows the secret to whoever may read
    executions: a redirect of Apache and most pages of an error name the URL.
    """
    secret = "s3cret & <m\u00f6re>/" if kind in ("basic", "query") else "s3cret & <more>/"

    def says(request: HttpRequest) -> HttpResponse:
        sent = f"{request.url} {request.headers.get('authorization')} {request.headers.get('x-key')}"
        own = "" if kind == "oauth2" else secret  # which it was not sent
        text = f"{sent} {own} {quote(own)} {escape(own)} {json.dumps(own)} {escape(sent)}"
        return HttpResponse(status, (("x-request-id", sent), ("server", "s")), text.encode(), False)

    async def story() -> None:
        door = Door()
        door.says = says
        outcome = await attempt(door, credential(kind, secret))
        assert outcome.response is not None
        headers, body = outcome.response["headers"], outcome.response["body"]
        (request,) = door.received
        sent = request.headers.get("authorization", "").split(" ", 1)[-1] or secret
        for hidden in (secret, sent, "s3cret", *door.tokens_given):
            assert hidden not in body + str(headers)
        assert body.count("***") >= 2
        assert ("***" in headers["x-request-id"], headers["server"]) == (True, "s")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "truncated", "kept"),
    [
        (b"\xff" + SECRET.encode() + b"\x00", False, b"\xff***\x00"),
        (b"xyz " + SECRET.encode()[:-2], True, b"xyz ***"),
        (b"xyz " + SECRET.encode()[:-2], False, b"xyz " + SECRET.encode()[:-2]),
        (b"xyz s3", True, b"xyz s3"),
    ],
)
def test_nor_is_it_kept_in_bytes_or_where_it_was_cut(body: bytes, truncated: bool, kept: bytes) -> None:
    async def story() -> None:
        door = Door()
        door.says = lambda _request: HttpResponse(200, (), body, truncated)
        response = (await attempt(door, credential("bearer"))).response
        assert response is not None
        found = response["body"]
        assert (base64.b64decode(found) if "bodyEncoding" in response else found.encode()) == kept

    asyncio.run(story())


@pytest.mark.parametrize(
    "used",
    [credential("bearer", "12345"), credential("clientCertificate", "123456789")],
    ids=["short", "not sent"],
)
def test_what_was_not_sent_or_is_in_any_answer_stays(used: CredentialRecord) -> None:
    async def story() -> None:
        door = Door()
        door.says = lambda _request: HttpResponse(200, (), b"123456789", False)
        response = (await attempt(door, used)).response
        assert response is not None
        assert response["body"] == "123456789"

    asyncio.run(story())


def test_another_secret_or_another_meta_is_another_version() -> None:
    used = credential("oauth2")
    assert used.version == replace(used).version
    for changed in (replace(used, secret=BOX.encrypt(SECRET)), credential("oauth2", scope="more")):
        assert changed.version != used.version
        assert prepared(changed).access != prepared(used).access


class Door:
    """A door behind which there are a token server and a receiver.

    tokens_given: what the token server has given, in order. good: what the receiver takes. says:
    what it answers to a request, None for nothing in particular.
    """

    def __init__(self) -> None:
        self.tokens = Tokens()
        self.asked: list[HttpRequest] = []
        self.received: list[HttpRequest] = []
        self.tokens_given: list[str] = []
        self.good: Callable[[str], bool] = lambda _token: True
        self.says: Callable[[HttpRequest], HttpResponse | None] = lambda _request: None
        self.end: HttpResponse | EgressError | None = None
        self.seconds = 0.0

    async def request(self, request: HttpRequest) -> HttpResponse:
        if "login.example.com" not in request.url:
            self.received.append(request)
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            return self.says(request) or answer(200 if self.good(token) else 401)
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        if isinstance(self.end, EgressError):
            raise self.end
        if self.end is not None:
            return self.end
        self.tokens_given.append(f"t0k3n-{len(self.tokens_given) + 1}")
        body = {"access_token": self.tokens_given[-1], "token_type": "Bearer", "expires_in": 3600}
        return answer(200, json.dumps(body).encode())


async def attempt(door: Door, used: CredentialRecord, timeout_ms: int = 5_000) -> Outcome:
    given = context()
    given = given._replace(callback=replace(given.callback, timeout_ms=timeout_ms))
    given_action = action(used)
    made = Prepared(KINDS_OF_ACTIONS["HTTP_POST"], given_action, request_of_kind(given_action, given))
    return await perform(made, STAMP, Doors({Egress: cast(Egress, door)}))


def test_a_hundred_deliveries_are_one_token() -> None:
    async def story() -> None:
        door, used = Door(), credential("oauth2", scope="a b")
        outcomes = await asyncio.gather(*(attempt(door, used) for _ in range(50)))
        outcomes += [await attempt(door, used) for _ in range(50)]
        assert all(outcome.success for outcome in outcomes)
        assert (len(door.asked), len(door.received)) == (1, 100)
        assert {request.headers["authorization"] for request in door.received} == {"Bearer t0k3n-1"}
        (asked,) = door.asked
        assert (asked.method, asked.url) == ("POST", "https://login.example.com/token?p=1")
        assert asked.tenant == str(UUID(int=2)), "the look-up is charged to its tenant"

    asyncio.run(story())


def test_a_token_that_is_refused_is_dropped_and_the_next_attempt_may_come_at_once() -> None:
    async def story() -> None:
        door, used = Door(), credential("oauth2")
        assert (await attempt(door, used)).success
        door.good = lambda token: token != "t0k3n-1"
        refused = await attempt(door, used)
        assert (refused.success, refused.code, refused.retryable, refused.mended) == (
            False,
            "http_401",
            True,
            True,
        )
        assert "t0k" not in str(refused)
        again = await attempt(door, used)
        assert (again.success, again.mended) == (True, False)
        assert len(door.asked) == 2

    asyncio.run(story())


def test_a_token_that_is_refused_soon_after_another_stays_and_nothing_comes_at_once() -> None:
    async def story() -> None:
        door, used = Door(), credential("oauth2")
        door.good = lambda _token: False
        first, second = [await attempt(door, used) for _ in range(2)]
        assert (first.mended, second.mended) == (True, False)
        assert [("used no more" in str(one.error)) for one in (first, second)] == [True, False]
        assert (second.code, second.retryable) == ("http_401", True)
        for _ in range(20):
            await attempt(door, used)
        assert len(door.asked) == 2

    asyncio.run(story())


def test_a_refusal_of_what_is_no_token_mends_nothing() -> None:
    async def story() -> None:
        door = Door()
        door.good = lambda _token: False
        for kind in ("bearer", "basic", "header", "query"):
            outcome = await attempt(door, credential(kind))
            assert (outcome.code, outcome.mended) == ("http_401", False)

    asyncio.run(story())


def test_another_version_asks_for_a_token_of_its_own() -> None:
    """Fails when a token that the old secret bought is used after it was replaced."""

    async def story() -> None:
        door, used = Door(), credential("oauth2")
        await attempt(door, used)
        await attempt(door, replace(used, secret=BOX.encrypt("new")))
        await attempt(door, replace(used, id=UUID(int=9)))
        assert len(door.asked) == 3

    asyncio.run(story())


@pytest.mark.parametrize(
    ("end", "retryable", "said"),
    [
        (answer(401, b'{"error": "invalid_client"}'), False, "answered 401 (invalid_client)"),
        (answer(503, b"", retry_after="9"), True, "answered 503"),
        (EgressError("timeout", "login took too long."), True, "could not be asked: login took too long."),
        (EgressError("blocked_address", "It leads inside."), False, "It leads inside."),
    ],
)
def test_without_a_token_nothing_is_sent_to_the_receiver(
    end: HttpResponse | EgressError, retryable: bool, said: str
) -> None:
    async def story() -> None:
        door = Door()
        door.end = end
        outcome = await attempt(door, credential("oauth2"))
        assert (outcome.success, outcome.code, outcome.retryable) == (False, "oauth_failed", retryable)
        assert said in str(outcome.error)
        assert (outcome.status_code, outcome.response, outcome.unsent) == (None, None, False)
        assert outcome.retry_after_seconds == (9 if "503" in said else None)
        assert door.received == []

    asyncio.run(story())


def test_fetching_a_token_is_part_of_the_attempts_time() -> None:
    async def story() -> None:
        door, used = Door(), credential("oauth2")
        door.seconds = 0.2
        late = await attempt(door, used, timeout_ms=50)
        assert (late.code, late.retryable, door.received) == ("oauth_failed", True, [])
        assert (await attempt(door, used, timeout_ms=5_000)).success, "the fetch went on for others"
        assert len(door.asked) == 1
        assert door.received[0].timeout_ms < 5_000

    asyncio.run(story())


def test_the_kinds_of_other_providers_are_known_and_are_for_no_http_action() -> None:
    for provider in ("SENDGRID", "TWILIO", "SLACK", "DISCORD"):
        assert "HTTP_POST" not in kind_of(provider, None).action_types
