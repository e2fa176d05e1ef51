"""What HTTP answers mean to every action type that gets one."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.actions.test_http_post import answer
from worker.actions.http_answers import kept_response, outcome_of_error, retry_after_seconds, shown_location
from worker.egress.errors import EgressError, Phase
from worker.egress.messages import HttpResponse


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
    assert retry_after_seconds(answer(503, retry_after=value)) == seconds


def test_retry_after_as_a_date_far_off_is_capped() -> None:
    found = retry_after_seconds(answer(503, retry_after="Fri, 31 Dec 9999 23:59:59 GMT"))
    assert found == 86400


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = retry_after_seconds(answer(503, Retry_After=later))
    assert found is not None
    assert 55 <= found <= 60
    assert retry_after_seconds(answer(503, retry_after="Mon, 01 Jan 1990 00:00:00 GMT")) == 0


@pytest.mark.parametrize(
    ("phase", "closed", "unsent"),
    [
        ("resolve", False, False),
        ("connect", False, True),
        ("send", False, False),
        ("receive", False, False),
        ("send", True, True),
        ("receive", True, True),
    ],
)
def test_trying_at_once_makes_sense_if_the_receiver_has_seen_nothing(
    phase: Phase, closed: bool, unsent: bool
) -> None:
    """No connection came about, or a kept one had been closed.

    Fails when a connection that was kept too long costs the schedule's first delay, or when a
    receiver that has the request gets it again at once.
    """
    error = EgressError("connection_closed", "no", phase=phase, reused_connection_closed=closed)
    assert outcome_of_error(error).unsent is unsent


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
    response = kept_response(answer(200, body, truncated))
    assert (response["body"], response.get("bodyEncoding"), response["truncated"]) == (
        kept,
        encoding,
        truncated,
    )


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://h:8443/canary?q=canary#canary", "https://h:8443/…"),
        ("https://canary:canary@h/canary", "https://h/…"),
        ("https://canary@canary@h/canary", "https://h/…"),
        ("https://h", "https://h"),
        ("https://h/", "https://h/"),
        ("https://h?canary", "https://h/…"),
        ("https://h/#canary", "https://h/…"),
        ("//canary@h/canary", "//h/…"),
        ("/canary?canary", "/…"),
        ("canary", "/…"),
        ("a/canary:b@c", "/…"),
        ("?canary", "/…"),
        ("", None),
        ("me_1:canary@h/p", None),
        ("canary@h/p", None),
        ("https://" + "x" * 300 + "/", None),
        ("https:canary@h/", None),
        ("mailto:canary@h", None),
        ("https:\\\\canary@h/", None),
        ("/\\canary:canary@h/", None),
        ("http://[canary/", None),
    ],
)
def test_of_a_location_only_scheme_host_and_port_are_said(location: str, shown: str | None) -> None:
    assert shown_location(answer(302, location=location)) == shown


@given(st.text(max_size=300))
def test_no_location_breaks_anything(location: str) -> None:
    shown = shown_location(answer(302, location=location))
    assert shown is None or 0 < len(shown) <= 200


def test_only_a_few_headers_are_kept() -> None:
    response = kept_response(
        answer(200, b"", Content_Type="x" * 900, Set_Cookie="canary", Location="/canary")
    )
    assert response["headers"] == {"content-type": "x" * 500, "location": "/…"}
    assert "location" not in kept_response(answer(302, b"", Location="canary@h"))["headers"]


def test_a_failed_call_says_why_and_whether_to_try_again() -> None:
    timeout = outcome_of_error(EgressError("timeout", "took too long", phase="receive"))
    assert (timeout.success, timeout.code, timeout.retryable) == (False, "timeout", True)
    assert not outcome_of_error(EgressError("blocked_address", "not allowed")).retryable


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["Mon,", "01", "Jan", "1990", "99999", "00:00:00", "GMT", "-0000", "+9999", ":", "-", "9" * 20]
        ),
        max_size=8,
    ).map(" ".join)
)
def test_no_retry_after_breaks_anything(value: str) -> None:
    seconds = retry_after_seconds(answer(503, retry_after=value))
    assert seconds is None or 0 <= seconds <= 24 * 3600


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
)
def test_a_date_means_the_same_wherever_the_worker_stands(
    form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three forms of RFC 9110 §5.6.7 are in UTC.

    Fails when the last is read in the host's time zone.
    """
    value = (datetime.now(UTC) + timedelta(seconds=600)).strftime(form)
    with monkeypatch.context() as host:
        host.setenv("TZ", zone)
        time.tzset()
        seconds = retry_after_seconds(answer(503, retry_after=value))
    time.tzset()
    assert seconds is not None
    assert 590 <= seconds <= 600


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), st.data())
def test_a_cut_anywhere_in_a_text_leaves_a_text(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    cut = data.draw(st.integers(0, len(whole)))
    kept = kept_response(answer(200, whole[:cut], True))
    assert "bodyEncoding" not in kept
    assert text.startswith(kept["body"])
    assert len(whole[:cut]) - len(kept["body"].encode()) < 4, "at most the character that was cut"


@given(st.binary(max_size=300), st.booleans())
def test_whatever_bytes_come_they_are_kept_in_a_form_that_jsonb_takes(body: bytes, truncated: bool) -> None:
    kept = kept_response(answer(500, body, truncated))
    stored = json.dumps(kept)
    assert "\\u0000" not in stored
    assert "\\ud" not in re.sub(r"\\ud[89ab]..\\ud[c-f]..", "", stored), "no lone surrogates"
    if kept.get("bodyEncoding") == "base64":
        assert base64.b64decode(kept["body"]) == body
    else:
        assert body.startswith(kept["body"].encode())


def test_kept_headers_are_known_in_any_case_and_may_come_twice() -> None:
    headers = (
        ("Content-TYPE", "a"),
        ("Retry-After", "1"),
        ("X-Request-ID", "r"),
        ("SERVER", "s"),
        ("x", "y"),
    )
    kept = kept_response(HttpResponse(200, headers + headers, b"", False))
    assert kept["headers"] == {"content-type": "a", "retry-after": "1", "x-request-id": "r", "server": "s"}
