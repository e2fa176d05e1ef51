"""Untidy answers, however they are cut into pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from worker.egress.forgiving import BEHIND, CODING, LENGTHS, UNREADABLE, ForgivingParser, is_interim, tidy

H200 = b"HTTP/1.1 200 OK\r\n"
H204 = b"HTTP/1.1 204 No Content\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

# Status, body and remark are the same wherever they are cut.
ANSWERS: dict[bytes, tuple[int, bytes, str | None]] = {
    H200 + LENGTH + b"\r\n{}": (200, b"{}", None),
    H200 + CHUNKED + b"\r\n" + CHUNKS: (200, b"{}", None),
    H204 + LENGTH + b"\r\n{}": (204, b"", BEHIND),
    H204 + CHUNKED + b"\r\n0\r\n\r\n": (204, b"", BEHIND),
    H200 + LENGTH + b"\r\n{}more": (200, b"{}", BEHIND),
    H200 + LENGTH + b"Connection: close\r\n\r\n{}more": (200, b"{}", BEHIND),
    H200 + LENGTH + b"\r\n{}" + H204 + b"\r\n": (200, b"{}", BEHIND),
    H200 + CHUNKED + b"\r\n" + CHUNKS + b"more": (200, b"{}", BEHIND),
    H200 + LENGTH * 2 + b"\r\n{}": (200, b"{}", LENGTHS),
    H200 + b"Content-length: 2 , 2\r\n\r\n{}": (200, b"{}", LENGTHS),
    H200 + LENGTH + CHUNKED + b"\r\n" + CHUNKS: (200, b"{}", LENGTHS),
    H200 + CHUNKED + b"Content-Length: 7\r\n\r\n" + CHUNKS: (200, b"{}", LENGTHS),
    H200 + LENGTH * 2 + b"\r\n{}more": (200, b"{}", f"{LENGTHS} {BEHIND}"),
    H200 + LENGTH + CHUNKED + b"\r\n{}": (200, b"", f"{LENGTHS} {UNREADABLE}"),
    H200 + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n{}": (200, b"{}", CODING),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + H204 + LENGTH + b"\r\n{}": (204, b"", BEHIND),
    (H200 + LENGTH * 2 + b"\r\n").replace(b"\r", b"") + b"{}": (200, b"{}", LENGTHS),
}


def parser() -> ForgivingParser:
    """One that reads as a connection's does."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)

    def fresh() -> Any:
        made = HttpResponseParser(
            cast(Any, protocol), loop, 65536, read_until_eof=True, auto_decompress=False
        )
        protocol._parser = cast(Any, made)
        return made

    return ForgivingParser(fresh(), fresh)


def read(pieces: Iterable[bytes]) -> tuple[int | None, bytes, str | None]:
    """The status and the body that came whole, and what is noted."""

    async def story() -> tuple[int | None, bytes, str | None]:
        forgiving = parser()
        found = [message for piece in pieces for message in forgiving.feed_data(piece)[0]]
        answers = [(message, body) for message, body in found if not is_interim(message)]
        if not answers:
            return None, b"", forgiving.remark
        ((message, body),) = answers
        assert body.is_eof(), "its end is known"
        return message.code, b"" if message.code == 204 else await body.read(), forgiving.remark

    return asyncio.run(story())


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_an_answer_is_the_same_in_one_piece_in_two_and_byte_by_byte(answer: bytes) -> None:
    expected = ANSWERS[answer]
    assert read([answer]) == expected
    assert read(answer[at : at + 1] for at in range(len(answer))) == expected
    for at in range(1, len(answer)):
        assert read([answer[:at], answer[at:]]) == expected, at


def test_where_nothing_tells_the_end_what_came_with_the_head_is_the_body() -> None:
    head = H200 + b"Transfer-Encoding: identity\r\n\r\n"
    assert read([head + b"{}"]) == (200, b"{}", CODING)
    assert read([head, b"{}"]) == (200, b"", CODING)
    assert read([head + b"x" * 300_000])[2] == CODING


def test_a_receiver_that_says_it_will_close_is_read_until_it_does() -> None:
    async def story() -> None:
        for head in (
            H200 + b"Transfer-Encoding: identity\r\nConnection: close\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        ):
            forgiving = parser()
            ((_, body),) = forgiving.feed_data(head + b"{")[0]
            forgiving.feed_data(b"}")
            assert not body.is_eof()
            forgiving.feed_eof()
            assert (await body.read(), forgiving.remark) == (b"{}", CODING)

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        H200 + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        H200 + b"Content-Length: 1, 2\r\n\r\n{}",
        H200 + b"Content-Length: two\r\n\r\n{}",
        H200 + LENGTH * 2 + b"X: y\r\n folded\r\n\r\n{}",
        H200 + LENGTH * 2 + b"no header\r\n\r\n{}",
        H200 + CHUNKED + b"\r\nZZ\r\n",
        b"garbage\r\n\r\n",
        b"\r\n\r\n\r\n\r\ngarbage\r\n\r\n",
    ],
    ids=repr,
)
def test_what_says_no_one_thing_is_refused_in_any_pieces(answer: bytes) -> None:
    for at in range(len(answer)):
        with pytest.raises(HttpProcessingError):
            read([answer[:at], answer[at:]])


@given(
    st.lists(
        st.sampled_from(
            b"content-length|Transfer-Encoding|:| |\t|2|,|chunked|identity|\r\n|\n|x: y\r\n".split(b"|")
        ),
        max_size=30,
    ).map(b"".join)
)
def test_a_tidied_head_says_one_thing_of_the_length(fields: bytes) -> None:
    found = tidy(H200 + fields + b"\r\n")
    if found is not None:
        head = found[0].lower()
        lines = head.replace(b"\r\n", b"\n").split(b"\n")
        framing = [line for line in lines if line.partition(b":")[0].strip() in FRAMING and b":" in line]
        assert len(framing) == 1
        assert head.startswith(H200.lower())


FRAMING = (b"content-length", b"transfer-encoding")


def test_a_line_that_is_long_costs_no_more_than_its_length() -> None:
    """Fails when a pattern goes back and forth over a run of spaces: minutes instead of moments."""
    head = H200 + b"content-length:" + b" " * 250_000 + b"x\r\n\r\n"
    assert tidy(head) is None
    assert tidy(H200 + b"content-length" + b" " * 250_000 + b"\r\n" + LENGTH * 2 + b"\r\n") is not None
