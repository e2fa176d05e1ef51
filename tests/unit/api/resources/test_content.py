"""Bytes as JSON shows them."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.resources.content import is_coded, shown


@pytest.mark.parametrize(
    "content", [b"", b"plain", b'{"a": 10.00, "a": 1}', b"[" * 5_000, "\ufeffcaf\u00e9".encode()]
)
def test_text_is_shown_as_it_came(content: bytes) -> None:
    """Fails when what is JSON is read and written again."""
    assert shown(content, len(content)) == ("text", content.decode(), False)


@pytest.mark.parametrize(
    "content", [b"\xff\x00", b"caf\xe9", b"a\x00b", b"\xed\xa0\x80", "\u20ac".encode()[:2]]
)
def test_what_is_no_text_or_holds_a_nul_is_base64(content: bytes) -> None:
    assert shown(content, len(content)) == ("base64", base64.b64encode(content).decode(), False)


@given(st.text(), st.integers(min_value=0, max_value=40))
def test_a_cut_costs_at_most_the_character_that_it_went_through(text: str, cut: int) -> None:
    content = text.replace("\x00", "").encode()
    first = content[:cut]
    encoding, beginning, truncated = shown(first, len(content))
    assert encoding == "text"
    assert truncated == (len(content) > len(first))
    assert first.startswith(beginning.encode())
    assert len(first) - len(beginning.encode()) < 4


@given(st.binary(max_size=50))
def test_whatever_came_can_be_written_as_json_and_read_back(content: bytes) -> None:
    encoding, text, _ = shown(content, len(content))
    assert orjson.loads(orjson.dumps(text)) == text
    assert (text.encode() if encoding == "text" else base64.b64decode(text)) == content


@pytest.mark.parametrize(
    ("headers", "coded"),
    [
        ([], False),
        ([("content-encoding", "gzip")], True),
        ([("content-encoding", "identity")], False),
        ([("content-encoding", " Identity , ")], False),
        ([("content-encoding", "identity"), ("content-encoding", "BR")], True),
        ([("x-content-encoding", "gzip"), ("content-type", "gzip")], False),
    ],
)
def test_a_coding_is_known_by_its_header(headers: list[tuple[str, str]], coded: bool) -> None:
    assert is_coded(headers) == coded


@pytest.mark.parametrize("content", [b"", b"[1]", b"text", b"\xff"])
def test_bytes_under_a_coding_are_no_text(content: bytes) -> None:
    encoding, value, truncated = shown(content, len(content) + 1, is_coded=True)
    assert (encoding, base64.b64decode(value), truncated) == ("base64", content, True)
