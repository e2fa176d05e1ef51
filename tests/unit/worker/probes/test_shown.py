"""What a probe's user sees of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.actions.contract import Outcome
from worker.egress.messages import HttpRequest, HttpResponse
from worker.probes.shown import MAX_BODY_BYTES, REFUSED, result_of, secrets_of
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
    """A Slack webhook's whole URL is its credential."""
    shown = result(Outcome(True), watched(), kind="SLACK")
    assert shown["request"]["url"] == "http://x.example/…"


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"authorization": f"Bearer {SECRET}"}, "url": "http://x/"},
        {"headers": {"authorization": f"Basic {SECRET}"}, "url": "http://x/"},
        {"headers": {}, "url": f"http://x/?{SECRET}"},
        {"headers": {}, "url": f"http://x/?a={SECRET}"},
        {"headers": {}, "url": "http://x/?a=" + SECRET.replace("-", "%2D")},
        {"headers": {}, "url": f"http://x/#{SECRET}"},
    ],
)
def test_a_receiver_that_repeats_what_was_masked_shows_a_mask(sent: dict[str, Any]) -> None:
    """Fails when a receiver that shows its callers their requests shows whoever tests a secret."""
    answer = watched(request(**sent), f"you sent {SECRET}.".encode(), headers=(("Server", SECRET),))
    shown = result(Outcome(False, "http_500", f"It said {SECRET}"), answer)
    assert shown["response"]["body"] == "you sent ***."
    assert shown["error"] == "It said ***"
    assert SECRET not in json.dumps(shown)


def test_short_texts_are_no_secrets() -> None:
    assert "1" not in secrets_of(request())


def test_a_body_is_cut_and_says_so() -> None:
    shown = result(Outcome(True), watched(body=b"x" * (MAX_BODY_BYTES + 1)))["response"]
    assert (len(shown["body"]), shown["truncated"], shown["bodyBytes"]) == (4096, True, 4097)
    whole = result(Outcome(True), watched(body=b"x" * MAX_BODY_BYTES))["response"]
    assert (len(whole["body"]), whole["truncated"]) == (4096, False)


def test_a_cut_goes_through_no_character() -> None:
    body = b"x" * (MAX_BODY_BYTES - 1) + "ä".encode()
    shown = result(Outcome(True), watched(body=body))["response"]
    assert (shown["body"], shown["bodyEncoding"]) == ("x" * 4095, "text")


def test_bytes_are_base64() -> None:
    shown = result(Outcome(True), watched(body=b"\xff\x00"))["response"]
    assert (shown["body"], shown["bodyEncoding"]) == ("/wA=", "base64")


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
