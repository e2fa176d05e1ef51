"""What travels with a body that passes through, and what of a call is forwarded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.http_message import check_forwarded
from shared.action_types.passed_on import forwarded, passed_on
from shared.errors import Invalid
from shared.masks import MASK
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
        assert request.opaque == {"content-type": (raw,)}
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
    assert not any(set(raw) & {*range(9), *range(10, 32), 127} for (raw,) in opaque.values())


def sealing(value: str) -> str:
    return "sealed:00000000:" + value[::-1]


def opening(sealed: str) -> str:
    if "lost" in sealed:
        raise Invalid("No key opens it.")
    return sealed.removeprefix("sealed:00000000:")[::-1]


def forwards(
    headers: list[list[str]], *patterns: str, taken: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, tuple[bytes, ...]]]:
    """What is forwarded of a call with these headers."""
    call = context(headers=json.dumps(headers)).trigger
    return forwarded(call, check_forwarded(patterns), taken, opening)


def test_headers_that_match_go_along_as_they_came() -> None:
    headers = [["x-a", "1"], ["x-b", ""], ["y", "2"], ["x-c", "***"], ["x-d", sealing("text")]]
    assert forwards(headers, "x-*") == (
        {"x-a": "1", "x-b": "", "x-c": "***", "x-d": sealing("text")},
        {},
    ), "only a credential is ever a mask, or sealed"


def test_repeated_headers_keep_their_order_and_their_number() -> None:
    headers = [["x-a", "2"], ["x-b", "1"], ["x-a", "1"], ["x-a", "2"], ["x-a", ""]]
    assert forwards(headers, "x-*") == ({"x-b": "1"}, {"x-a": (b"2", b"1", b"2", b"")})


def test_other_letters_of_a_forwarded_header_are_the_bytes_that_came() -> None:
    headers = [["x-a", "caf\xe9"], ["x-b", "a\tb"], ["x-c", "a"], ["x-c", "\xff"]]
    assert forwards(headers, "x-*") == ({}, {"x-a": (b"caf\xe9",), "x-b": (b"a\tb",), "x-c": (b"a", b"\xff")})


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\n", "\x00", "a\x7f", "\u2603", "\ud800"])
def test_what_no_header_can_hold_stays_here(value: str) -> None:
    """No server of ours records one; a row can hold it."""
    assert forwards([["x-a", value]], "x-*") == ({}, {})
    assert forwards([["x-a", value], ["x-a", "ok"]], "x-*") == ({}, {"x-a": (b"ok",)})


def test_what_the_request_has_already_wins() -> None:
    assert forwards([["x-a", "1"], ["x-b", "2"]], "x-*", taken=("x-a",)) == ({"x-b": "2"}, {})


def test_a_credential_that_was_sealed_is_opened_where_it_is_named_in_full() -> None:
    headers = [
        ["authorization", sealing("Bearer s3cret")],
        ["cookie", sealing("a=1")],
        ["cookie", sealing("b=2")],
    ]
    assert forwards(headers, "*", "auth*") == ({}, {})
    assert forwards(headers, "Authorization") == ({"authorization": "Bearer s3cret"}, {})
    assert forwards(headers, "cookie") == ({"cookie": "a=1; b=2"}, {}), "HTTP/1.1 has one line of cookies"
    twice = [*headers, ["authorization", sealing("Basic other")]]
    assert forwards(twice, "authorization") == ({}, {"authorization": (b"Bearer s3cret", b"Basic other")})


def test_a_credential_that_came_before_an_action_named_it_stays_a_mask_here() -> None:
    headers = [["authorization", MASK], ["cookie", MASK], ["x-a", "1"]]
    assert forwards(headers, "authorization", "cookie", "x-*") == ({"x-a": "1"}, {})


def test_a_credential_that_no_key_opens_says_whose_it_is() -> None:
    """Fails when the owner of an action is told to set again what a caller sent."""
    with pytest.raises(Invalid) as error:
        forwards([["authorization", sealing("tsol")]], "authorization")
    assert "The caller's authorization" in error.value.message
    assert "Set" not in error.value.hint
    assert "POINTSMAN_SECRET_KEYS" in error.value.hint


@given(
    st.lists(st.tuples(st.sampled_from(["x-a", "x-b", "host", "webhook-id", "cookie"]), st.text(max_size=9)))
)
def test_whatever_was_recorded_and_is_forwarded_can_be_sent(headers: list[tuple[str, str]]) -> None:
    plain, opaque = forwards([list(pair) for pair in headers], "*")
    assert plain.keys() | opaque.keys() <= {"x-a", "x-b"}
    assert plain.keys().isdisjoint(opaque)
    assert all(value.isascii() and value.isprintable() for value in plain.values())
    lines = [raw for values in opaque.values() for raw in values]
    assert not any(set(raw) & {*range(9), *range(10, 32), 127} for raw in lines)
