"""What travels with a body that passes through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.passed_on import passed_on
from tests.unit.worker.actions.test_http_post import context, request_of
from worker.egress.messages import HttpRequest

CALLED = [
    ["host", "x"],
    ["content-encoding", "br"],
    ["x-content-encoding", "no"],
    ["content-encoding", "gzip"],
]


def passed(content_type: str | None, headers: list[list[str]]) -> HttpRequest:
    given = context(content_type=content_type, headers=json.dumps(headers))
    return request_of({"url": "http://x/"}, given)


def test_coding_and_language_go_along_and_codings_keep_their_order() -> None:
    request = passed("text/plain", [*CALLED, ["content-language", "de"]])
    assert request.headers["content-type"] == "text/plain"
    assert request.headers["content-encoding"] == "br, gzip"
    assert request.headers["content-language"] == "de"
    assert "host" not in request.headers
    assert request.opaque == {}


@pytest.mark.parametrize(
    "headers",
    [[], [["content-encoding", ""]], [["x", "content-encoding"]], [["x", '["content-encoding", "gzip"]']]],
)
def test_what_only_looks_like_a_coding_is_none(headers: list[list[str]]) -> None:
    assert "content-encoding" not in passed("text/plain", headers).headers


def test_other_letters_go_along_as_the_bytes_that_came() -> None:
    for raw in (b"a/b; c=caf\xe9", "a/b; c=caf\u00e9\u2603".encode(), b"a/b;\tc=d"):
        request = passed(raw.decode("latin-1"), [])
        assert request.opaque == {"content-type": raw}
        assert "content-type" not in request.headers


@pytest.mark.parametrize("value", ["a/b\x00", "a/b\r\nX: y", "a/b\x7f", "a/b \u2603", "\ud800"])
def test_a_type_that_no_header_can_hold_is_just_bytes(value: str) -> None:
    request = passed(value, [["content-encoding", value], ["content-language", value]])
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.opaque == {}
    assert not {"content-encoding", "content-language"} & set(request.headers)


def test_what_the_action_sets_itself_wins_in_any_case() -> None:
    own = {"Content-TYPE": "own/type", "content-Encoding": "identity", "CONTENT-LANGUAGE": "fr"}
    given = context(content_type="caf\u00e9/x", headers=json.dumps([*CALLED, ["content-language", "\u00e9"]]))
    request = request_of({"url": "http://x/", "headers": own}, given)
    assert request.opaque == {}
    assert {name: request.headers[name.lower()] for name in own} == own


def test_a_body_of_ones_own_has_nothing_of_the_callers() -> None:
    given = context(content_type="caf\u00e9/x", headers=json.dumps(CALLED))
    request = request_of({"url": "http://x/", "body": "own"}, given)
    assert (request.headers["content-type"], request.opaque) == ("text/plain; charset=utf-8", {})
    assert "content-encoding" not in request.headers


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_was_recorded_can_be_sent(content_type: str, coding: str) -> None:
    trigger = context(content_type=content_type, headers=json.dumps([["content-encoding", coding]])).trigger
    plain, opaque = passed_on(trigger, ())
    assert ("content-type" in plain) != ("content-type" in opaque)
    assert all(value.isascii() and value.isprintable() for value in plain.values())
    assert not any(set(raw) & {*range(9), *range(10, 32), 127} for raw in opaque.values())
