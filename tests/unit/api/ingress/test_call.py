"""What callers of trigger URLs prefer, and what becomes of their credentials."""

from __future__ import annotations

import json

import pytest

from api.ingress.call import Call, preferred_wait_seconds


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=7", 7),
        ("respond-async, Wait = 7 ; x=1", 7),
        ('wait="7"', 7),
        ("wait=7, wait=9", 7),
        ("wait=120", 30),
        ("wait=0", 0),
        ("wait", 0),
        ("wait=soon", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=\u0663", 0),
        ("wait=" + "9" * 5000, 0),
        ("awaits=7", 0),
    ],
)
def test_the_preferred_wait_is_bounded_and_nonsense_is_ignored(prefer: str | None, seconds: int) -> None:
    assert preferred_wait_seconds(prefer, timeout_ms=30_999) == seconds


def call(headers: list[tuple[str, str]], credentials: list[tuple[str, str]]) -> Call:
    """A call as the view makes it: masks among the headers, and what they stand for beside them."""
    given = json.dumps(headers)
    fixed = ("/t/x", "http://x/t/x", "r", "POST", "/t/x", "", given, None, b"", None)
    return Call(*fixed, credentials=tuple(credentials))


RECORDED = [
    ("cookie", "***"),
    ("x-a", "***"),
    ("authorization", "***"),
    ("proxy-authorization", "***"),
    ("authorization", "***"),
]
CREDENTIALS = [("cookie", "c=1"), ("authorization", "first"), ("authorization", "second")]


@pytest.mark.parametrize(
    ("names", "sealed"),
    [
        ([], ["***", "***", "***", "***", "***"]),
        (["authorization"], ["***", "***", "<first>", "***", "<second>"]),
        (["cookie"], ["<c=1>", "***", "***", "***", "***"]),
        (["cookie", "authorization"], ["<c=1>", "***", "<first>", "***", "<second>"]),
        (["x-a", "proxy-authorization"], ["***", "***", "***", "***", "***"]),
    ],
)
def test_credentials_are_sealed_where_they_stood_if_they_are_named(
    names: list[str], sealed: list[str]
) -> None:
    made = call(RECORDED, CREDENTIALS).with_sealed(names, lambda value: f"<{value}>")
    assert [name for name, _ in json.loads(made.headers)] == [name for name, _ in RECORDED]
    assert [value for _, value in json.loads(made.headers)] == sealed
    assert made.credentials == (), "nothing of them is held in the clear behind it"


def test_a_call_shows_no_credential_of_its_own() -> None:
    assert "first" not in repr(call(RECORDED, CREDENTIALS))
