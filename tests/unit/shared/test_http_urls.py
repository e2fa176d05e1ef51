"""Which URLs can be sent to, and what of them goes on the wire."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http_urls import MAX_URL_CHARS, read_url


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://h", "http://h/", "/"),
        ("http://h/", "http://h/", "/"),
        ("HTTPS://H.example:443/p", "https://h.example/", "/p"),
        ("http://h:8080?q=%2F", "http://h:8080/", "/?q=%2F"),
        ("http://h/a/../b?x=1+2#f?g", "http://h/", "/a/../b?x=1+2"),
        ("http://h/a?", "http://h/", "/a?"),
        ("http://h#f", "http://h/", "/"),
        ("http://h:/p", "http://h/", "/p"),
        ("http://[::1]:8080/p", "http://[::1]:8080/", "/p"),
        ("http://caf\u00e9.example/p", "http://xn--caf-dma.example/", "/p"),
        ("http://a_b.example/a@b:c", "http://a_b.example/", "/a@b:c"),
        ("http://h/http://other/@x", "http://h/", "/http://other/@x"),
    ],
)
def test_a_url_is_an_origin_and_a_target(url: str, origin: str, target: str) -> None:
    found = read_url(url)
    assert (str(found.origin), found.target) == (origin, target)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/",
        "//h/",
        "http:h",
        "http:/h",
        "http:///p",
        "http://",
        "http://?q",
        "http://#f",
        "ftp://h/",
        "javascript://h/",
        "http://u@h/",
        "http://u:p@h/",
        "http://@h/",
        "http://:@h/",
        "http://h\\@other/",
        "http://h\\/",
        "http://h:x/",
        "http://h:+8/",
        "http://h:-1/",
        "http://h:\u0663/",
        "http://h:65536/",
        "http://::1/",
        "http://[::1/",
        "http://[::1%25eth0]/",
        "http://[::1]x/",
        "http://a[b]/",
        "http://ex%61mple.com/",
        "http://a|b/",
        "http://a\u200db/",
        "http://a..b/",
        "http://" + "a" * 64 + "/",
        "http://" + "\u00e9" * 60 + "/",
        "http://\ud800/",
        "http://h/\ud800",
        "http://h/caf\u00e9",
        "http://h/?q=\u00e9",
        "http://h/ ",
        " http://h/",
        "http://h/\r\n",
        "http://h/\x00",
        "http://h/\x7f",
        "http://h/\x85",
        "http://h\u00a0/",
        "http://" + "a" * MAX_URL_CHARS,
    ],
)
def test_what_could_mean_something_else_or_cannot_be_sent_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as error:
        read_url(url)
    assert "example" not in str(error.value)


def test_a_refusal_shows_no_part_of_the_url() -> None:
    for url in ("http://canary:canary@h/", "http://h/canary\u00e9", "http://h:canary/", "canary://h/"):
        with pytest.raises(ValueError) as error:
            read_url(url)
        assert "canary" not in str(error.value)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=80))
def test_any_printable_target_is_kept_byte_for_byte(rest: str) -> None:
    assert read_url("http://h/" + rest).target == "/" + rest
    assert read_url("http://h?" + rest).target == "/?" + rest


@given(st.text(max_size=40))
def test_whatever_is_written_percent_encoded_can_be_sent(text: str) -> None:
    encodable = text.encode(errors="surrogatepass")
    assert read_url("http://h/" + quote(encodable)).target == "/" + quote(encodable)
