"""Bytes as JSON shows them."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from api.resources.content import MAX_DEPTH, is_coded, shown


@pytest.mark.parametrize(
    ("content", "encoding", "value"),
    [
        (b'{"a": [1, "x"]}', "json", {"a": [1, "x"]}),
        (b"", "text", ""),
        (b"plain", "text", "plain"),
        (b"\xff\x00", "base64", base64.b64encode(b"\xff\x00").decode()),
        (b"{}" + b"x", "text", "{}x"),
    ],
)
def test_json_is_json_text_is_text_and_the_rest_is_base64(content: bytes, encoding: str, value: Any) -> None:
    assert shown(content) == (encoding, value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [1, MAX_DEPTH, MAX_DEPTH + 1, 260, 1_000, 5_000])
def test_what_is_nested_too_deep_to_be_written_is_text(opening: bytes, depth: int) -> None:
    """Fails when a stranger's `[[[…` makes every page that shows it a 500."""
    closing = b"]" if opening == b"[" else b"}"
    content = opening * depth + b"1" + closing * depth
    encoding, value = shown(content)
    assert encoding == ("json" if depth <= MAX_DEPTH else "text")
    orjson.dumps({"request": {"body": value}})


def test_many_lists_beside_one_another_are_json() -> None:
    content = b"[" + b",".join([b"[[1]]"] * 500) + b"]"
    assert shown(content)[0] == "json"


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
def test_bytes_under_a_coding_are_neither_json_nor_text(content: bytes) -> None:
    encoding, value = shown(content, is_coded=True)
    assert (encoding, base64.b64decode(value)) == ("base64", content)
