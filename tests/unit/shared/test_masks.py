"""Masks stand for what was there, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_types.http_message import check_url
from shared.errors import Invalid
from shared.http_urls import MAX_URL_CHARS
from shared.masks import (
    HARMLESS_HEADERS,
    MASK,
    is_same_destination,
    masked_headers,
    masked_url,
    secret_headers,
    shortest_url,
    unmasked_headers,
    unmasked_url,
)

WORD = st.text("abc%=.~", max_size=6)
QUERY = st.lists(st.sampled_from(["a=", "b=", "a", ""]) | WORD.map("a=".__add__) | WORD, max_size=5)
URL = st.builds(
    lambda query, fragment: "http://x.example/p" + ("?" + "&".join(query) if query else "") + fragment,
    QUERY,
    st.sampled_from(["", "#", "#part"]),
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://x", "http://x"),
        ("http://x/p", "http://x/p"),
        ("http://x/p?", "http://x/p?"),
        ("http://x/p?a=1&b=2", "http://x/p?a=***&b=***"),
        ("http://x/p?a=&token&=v&&a=b=c", "http://x/p?a=&***&=***&&a=***"),
        ("http://x?a=1/#b?c=1", "http://x?a=***#***"),
        ("http://x/p#", "http://x/p#"),
    ],
)
def test_of_a_url_the_values_of_its_query_and_the_fragment_are_masked(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@given(URL)
def test_a_url_that_comes_back_as_it_was_shown_is_what_it_was(url: str) -> None:
    assert unmasked_url(masked_url(url), url, "url") == url


@given(URL)
def test_no_url_that_is_shown_so_is_shorter_than_its_shortest(url: str) -> None:
    assert len(shortest_url(masked_url(url))) <= len(url)


def test_the_length_of_a_url_is_counted_without_its_masks() -> None:
    """Fails when a URL that was taken is shown longer than one that is taken."""
    url = "http://x/p?" + "&".join(f"a{n:03}=1" for n in range(280)) + "#f"
    longest = url.replace("/p?", "/" + "p" * (MAX_URL_CHARS - len(url) + 1) + "?")
    assert len(check_url(longest)) == MAX_URL_CHARS < len(masked_url(longest))
    assert check_url(masked_url(longest)) == masked_url(longest)
    assert check_url(masked_url(longest).replace("***", "%2A%2a*"))
    for too_long in (longest + "f", masked_url(longest).replace("/p", "/pp", 1)):
        with pytest.raises(ValueError, match="longer than 2000"):
            check_url(too_long)


@given(URL, URL)
def test_a_url_without_a_mask_is_taken_as_it_is(url: str, kept: str) -> None:
    assert unmasked_url(url, kept, "url") == url


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("http://x/?a=***", None),
        ("http://x/?a=***", "http://x/"),
        ("http://x/?a=***", "http://x/?b=1"),
        ("http://x/?a=***", "http://x/?A=1"),
        ("http://x/?a=***", "http://x/?a="),
        ("http://x/?a=***", "http://x/?a"),
        ("http://x/?***", "http://x/?a=1"),
        ("http://x/?a=***", "http://x/?a=1&a=2"),
        ("http://x/?a=***&a=3", "http://x/?a=1"),
        ("http://x/#***", "http://x/"),
        ("http://x/***", "http://x/secret"),
        ("http://x/%2A%2a*", "http://x/secret"),
        ("http://x/?a=%2A%2A%2A", "http://x/?b=1"),
    ],
)
def test_a_mask_without_a_counterpart_is_refused(given_url: str, kept: str | None) -> None:
    with pytest.raises(Invalid) as error:
        unmasked_url(given_url, kept, "config.url")
    assert error.value.code == "mask_without_secret"
    assert error.value.message.startswith("config.url ")


def test_of_equal_names_the_position_counts() -> None:
    kept = "http://x/?a=1&b=9&a=2&***"
    assert unmasked_url("http://x/?a=***&a=***&b=***", kept, "url") == "http://x/?a=1&a=2&b=9"
    assert unmasked_url("http://x/?a=***&a=new", kept, "url") == "http://x/?a=1&a=new"


def test_every_header_is_masked_but_those_that_every_client_sends() -> None:
    headers = {"X-Anything": "s", "Authorization": "s", "X-Empty": "", "Content-TYPE": "t", "user-agent": "u"}
    assert masked_headers(headers) == headers | {"X-Anything": MASK, "Authorization": MASK}
    assert secret_headers(headers) == ["X-Anything", "Authorization"]
    assert all(name == name.lower() for name in HARMLESS_HEADERS)
    assert not any("auth" in name or "cookie" in name or "token" in name for name in HARMLESS_HEADERS)


def test_a_header_is_matched_by_its_name_in_any_case() -> None:
    kept = {"Authorization": "s", "X-Empty": ""}
    assert unmasked_headers({"AUTHORIZATION": MASK, "X-New": "n"}, kept, "h") == {
        "AUTHORIZATION": "s",
        "X-New": "n",
    }
    for name in ("X-New", "X-Empty"):
        with pytest.raises(Invalid, match=f"h.{name}"):
            unmasked_headers({name: MASK}, kept, "h")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h:0/", "http://h/", False),
        ("http://h:0/", "http://h:0", True),
        ("http://caf\u00e9.example/", "http://xn--caf-dma.example/", True),
        ("http://h./", "http://h/", False),
        ("http://h:/", "http://h/", True),
        ("http://127.1/", "http://127.1/p", True),
        ("http://127.1/", "http://127.0.0.1/", False),
        ("http://x sealed:1", "http://x:80/", True),
        ("http://x/a", "http://x/b?c#d", True),
        ("http://x", "HTTP://X:80/", True),
        ("https://x:443/", "https://x", True),
        ("http://x/", "https://x/", False),
        ("http://x/", "http://x:8080/", False),
        ("http://x/", "http://y/", False),
        ("http://x/", "http://x./", False),
        ("http://x:443/", "https://x/", False),
        ("http://[::1]:1/", "http://[::1]:1/p", True),
    ],
)
def test_a_destination_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    assert is_same_destination(one, other) is same
