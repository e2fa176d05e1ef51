"""Which headers an action may set, and which of a caller's may travel on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.http_message import (
    FORBIDDEN_HEADERS,
    MAX_FORWARDED,
    MAX_PATTERN_CHARS,
    NEVER_FORWARDED,
    check_forwarded,
    check_headers,
    is_forwarded,
)

RESERVED = [
    *sorted(FORBIDDEN_HEADERS),
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhook-anything",
    "pointsman-trigger-id",
    "pointsman-via",
    "pointsman-anything",
    "proxy-authorization",
    "proxy-anything",
]
EVERYTHING = ("*", "*-*", "web*", "*_*")


@pytest.mark.parametrize("name", RESERVED)
def test_what_is_reserved_is_neither_set_nor_forwarded_in_any_spelling(name: str) -> None:
    """Receivers that speak CGI read an underscore as a hyphen."""
    for spelling in (
        name,
        name.upper(),
        name.title(),
        name.replace("-", "_"),
        name.title().replace("-", "_"),
    ):
        with pytest.raises(ValueError, match="cannot be overridden"):
            check_headers({spelling: "1"})
        with pytest.raises(ValueError, match="never forwarded"):
            check_forwarded([spelling])
        assert not is_forwarded(spelling.lower(), [*EVERYTHING, spelling.lower()])


@pytest.mark.parametrize("name", sorted(NEVER_FORWARDED - FORBIDDEN_HEADERS))
def test_what_describes_the_body_or_the_connection_is_set_and_not_forwarded(name: str) -> None:
    assert check_headers({name: "1"})
    for spelling in (name, name.replace("-", "_")):
        assert not is_forwarded(spelling, [*EVERYTHING, spelling])


@pytest.mark.parametrize("pattern", ["webhook-*", "Pointsman-*", "PROXY-*", "webhook_*"])
def test_a_pattern_of_nothing_but_reserved_names_is_refused(pattern: str) -> None:
    """Fails when its owner learns from missing headers alone that it means nothing."""
    with pytest.raises(ValueError, match="never forwarded"):
        check_forwarded([pattern])


@pytest.mark.parametrize(
    ("name", "patterns", "forwarded"),
    [
        ("x-github-event", ["x-github-*"], True),
        ("x-github-event", ["X-GitHub-*"], True),
        ("x-github-event", ["x-*-event"], True),
        ("x-github-event", ["x-github-even"], False),
        ("x-github-event", ["github-*"], False),
        ("x-github-event", [], False),
        ("x.github", ["x-github"], False),
        ("authorization", ["*"], False),
        ("authorization", ["authorizatio*"], False),
        ("authorization", ["authorization*"], False),
        ("authorization", ["Authorization"], True),
        ("cookie", ["*", "coo*"], False),
        ("cookie", ["x-*", "COOKIE"], True),
        ("cookie", ["authorization"], False),
    ],
)
def test_a_header_is_forwarded_by_its_name_and_a_credential_by_nothing_less(
    name: str, patterns: list[str], forwarded: bool
) -> None:
    assert is_forwarded(name, check_forwarded(patterns)) is forwarded


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        " ",
        "a b",
        " authorization",
        "authorization ",
        "a\r\n",
        "a\x00",
        "caf\u00e9",
        "a:b",
        "a?",
        "[a]",
        "x" * 101,
    ],
)
def test_what_is_no_name_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not the name of a header"):
        check_forwarded([pattern])


def test_patterns_are_bounded_and_each_stands_once() -> None:
    assert check_forwarded(["X-A", "x-a", "x-b"]) == ("x-a", "x-b")
    assert check_forwarded(["x" * MAX_PATTERN_CHARS])
    with pytest.raises(ValueError, match=f"more than {MAX_FORWARDED}"):
        check_forwarded([f"x-{n}" for n in range(MAX_FORWARDED + 1)])


@given(
    st.lists(st.from_regex(r"[a-zA-Z_*-]{1,12}", fullmatch=True), max_size=5),
    st.sampled_from(RESERVED),
)
def test_no_patterns_together_forward_what_is_reserved(patterns: list[str], name: str) -> None:
    try:
        checked = check_forwarded(patterns)
    except ValueError:
        return
    assert not is_forwarded(name, checked)
