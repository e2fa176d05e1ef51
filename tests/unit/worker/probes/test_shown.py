"""What a probe's user sees of it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from worker.actions.contract import Outcome
from worker.egress.messages import HttpRequest, HttpResponse
from worker.probes.shown import MAX_BODY_BYTES, REFUSED, result_of
from worker.probes.watched import Watched

SECRET = "s3cret-canary"


def request(**changes: Any) -> HttpRequest:
    given: dict[str, Any] = {
        "method": "POST",
        "url": f"http://x.example/path?key={SECRET}&n=1#{SECRET}2",
        "headers": {"content-type": "text/plain", "webhook-id": "id-1", "X-Own": SECRET + "3"},
        "body": b"body",
        "timeout_ms": 1,
        "max_response_bytes": 1,
        "tenant": "t",
        "opaque": {"x-raw": (SECRET.encode() + b"\xff",)},
    }
    return HttpRequest(**given | changes)


def watched(sent: HttpRequest | None = None, body: bytes = b"ok", **answer: Any) -> Watched:
    made = Watched()
    made.dialled.named, made.dialled.address = "x.example:80", "192.0.2.1"
    made.request = sent or request()
    given: dict[str, Any] = {"status": 200, "headers": (), "body": body, "truncated": False}
    made.response = HttpResponse(**given | answer)
    return made


def result(outcome: Outcome, seen: Watched, kind: str = "HTTP_POST", **more: Any) -> dict[str, Any]:
    return result_of(outcome, seen, kind=kind, duration_ms=7, **more)


def test_what_was_sent_is_shown_with_its_secrets_masked() -> None:
    shown = result(Outcome(True, status_code=200), watched())
    assert shown["request"] == {
        "method": "POST",
        "url": "http://x.example/path?key=***&n=***#***",
        "headers": {"content-type": "text/plain", "webhook-id": "id-1", "X-Own": "***", "x-raw": "***"},
        "bodyBytes": 4,
    }
    assert (shown["outcome"], shown["dialled"], shown["durationMs"]) == ("success", "x.example:80", 7)
    assert SECRET not in json.dumps(shown)


def test_of_other_kinds_the_path_is_not_shown() -> None:
    """A Slack webhook's whole URL is its credential. Nor is it where the receiver repeats it."""
    sent = request(url="http://x.example/services/T0000/B0000")
    shown = result(Outcome(True), watched(sent, b"no /services/T0000/B0000, no B0000"), kind="SLACK")
    assert shown["request"]["url"] == "http://x.example/…"
    assert shown["response"]["body"] == "no ***, no ***"


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"authorization": f"Bearer {SECRET}"}, "url": "http://x/"},
        {"headers": {"authorization": f"Basic {SECRET}"}, "url": "http://x/"},
        {"headers": {}, "url": f"http://x/?{SECRET}"},
        {"headers": {}, "url": f"http://x/?a={SECRET}"},
        {"headers": {}, "url": "http://x/?a=" + SECRET.replace("-", "%2D")},
        {"headers": {}, "url": f"http://x/#{SECRET}"},
        {"headers": {"cookie": f"session={SECRET}; a=b"}, "url": "http://x/"},
        {"headers": {}, "url": "http://x/", "opaque": {"x-raw": (f"ä {SECRET}".encode(),)}},
    ],
)
def test_a_receiver_that_repeats_what_was_masked_shows_a_mask(sent: dict[str, Any]) -> None:
    """Fails when a receiver that shows its callers their requests shows whoever tests a secret."""
    answer = watched(request(**sent), f"you sent {SECRET}.".encode(), headers=(("Server", SECRET),))
    shown = result(Outcome(False, "http_500", f"It said {SECRET}"), answer)
    assert shown["response"]["body"] == "you sent ***."
    assert shown["error"] == "It said ***"
    assert SECRET not in json.dumps(shown)


@pytest.mark.parametrize("before", range(4_033, 4_100, 3))
def test_an_echo_that_is_cut_shows_no_beginning_of_a_secret(before: int) -> None:
    """Fails when the body or a header is cut first and then searched."""
    long = SECRET * 5
    sent = request(headers={"authorization": f"Bearer {long}"}, url="http://x/", opaque={})
    answer = watched(sent, b"x" * before + long.encode(), headers=(("Server", "y" * 490 + long),))
    shown = result(Outcome(True), answer)["response"]
    assert shown["body"] == "x" * min(before, MAX_BODY_BYTES) + "***" * (before < MAX_BODY_BYTES)
    assert shown["headers"]["server"] == "y" * 490 + "***"
    assert shown["truncated"]


def test_an_answer_that_was_cut_off_ends_with_no_beginning_of_a_secret() -> None:
    """As where the operator lets little of an answer be read."""
    shown = result(Outcome(True), watched(body=f"you sent {SECRET}"[:-1].encode(), truncated=True))
    assert shown["response"]["body"] == "you sent ***"


def test_a_credential_is_masked_though_it_stands_in_a_longer_secret() -> None:
    sent = request(headers={"x-own": "abcdef-the-rest"}, url="http://x/", opaque={})
    shown = result(Outcome(True), watched(sent, b"<abcdef-the-rest>"), secrets=["abcdef"])
    assert shown["response"]["body"] == "<***>"


def test_a_body_is_cut_and_says_so() -> None:
    shown = result(Outcome(True), watched(body=b"x" * (MAX_BODY_BYTES + 1)))["response"]
    assert (len(shown["body"]), shown["truncated"], shown["bodyBytes"]) == (4096, True, 4097)
    whole = result(Outcome(True), watched(body=b"x" * MAX_BODY_BYTES))["response"]
    assert (len(whole["body"]), whole["truncated"]) == (4096, False)


def test_a_cut_goes_through_no_character() -> None:
    body = b"x" * (MAX_BODY_BYTES - 1) + "ä".encode()
    shown = result(Outcome(True), watched(body=body))["response"]
    assert shown["body"] == "x" * 4095


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SECRET.encode() + b"\x00", ()),
        (SECRET.encode() + b" \xff", ()),
        (SECRET.encode("utf-16"), ()),
        (gzip.compress(SECRET.encode(), mtime=0), (("Content-Encoding", "gzip"),)),
        (b"ascii, as it happens", (("content-encoding", "identity, br"),)),
    ],
)
def test_what_is_no_text_is_not_shown(body: bytes, headers: Any) -> None:
    """Nobody finds a secret in it. Fails when it is shown in base64."""
    shown = result(Outcome(True), watched(body=body, headers=headers))["response"]
    assert (shown["body"], shown["bodyBytes"]) == (None, len(body))
    plain = result(Outcome(True), watched(headers=(("Content-Encoding", "identity"),)))["response"]
    assert plain["body"] == "ok"


def test_only_kept_headers_are_shown() -> None:
    headers = (("Set-Cookie", "session"), ("Content-Type", "a/b"), ("Location", f"http://y/{SECRET}"))
    shown = result(Outcome(True), watched(headers=headers))["response"]["headers"]
    assert shown == {"content-type": "a/b", "location": "http://y/…"}


def test_a_refused_address_is_named_nowhere_but_in_its_own_place() -> None:
    """Fails when the texts repeat what the door says of it where it may say more."""
    refused = Watched()
    refused.dialled.named, refused.dialled.address = "x.example:80", "10.1.2.3"
    refused.request = request()
    outcome = Outcome.permanent("blocked_address", "x.example:80 leads to a private address (10.1.2.3)")
    shown = result(outcome, refused)
    assert (shown["error"], shown["address"]) == (REFUSED, "10.1.2.3")
    assert shown["error"].startswith("refused: private network")
    assert (shown["request"], shown["response"]) == (None, None), "nothing was sent"
    assert json.dumps(shown).count("10.1.2.3") == 1


def test_a_skipped_one_was_not_sent() -> None:
    shown = result(Outcome(True, response={"skipped": True}), Watched(), skipped=True)
    assert (shown["outcome"], shown["request"], shown["response"]) == ("skipped", None, None)
