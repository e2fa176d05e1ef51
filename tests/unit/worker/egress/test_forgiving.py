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

from worker.egress import doubtful
from worker.egress.forgiving import BEHIND, BODILESS, CODING, LENGTHS, UNREADABLE, UNSAID, ForgivingParser
from worker.egress.heads import INTERIM, tidy

H200 = b"HTTP/1.1 200 OK\r\n"
H204 = b"HTTP/1.1 204 No Content\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"
ANOTHER = b"HTTP/1.1 410 Gone\r\nContent-Length: 6\r\n\r\nforged"

# Status, body and remark are the same wherever they are cut.
ANSWERS: dict[bytes, tuple[int, bytes, str | None]] = {
    H200 + LENGTH + b"\r\n{}": (200, b"{}", None),
    H200 + CHUNKED + b"\r\n" + CHUNKS: (200, b"{}", None),
    H204 + b"\r\n{}": (204, b"", BEHIND),
    H204 + b"Content-Length: 0\r\n\r\n": (204, b"", None),
    H204 + LENGTH + b"\r\n": (204, b"", BODILESS),
    H204 + LENGTH + b"\r\n{}": (204, b"", f"{BODILESS} {BEHIND}"),
    H204 + CHUNKED + b"\r\n0\r\n\r\n": (204, b"", f"{BODILESS} {BEHIND}"),
    **{H204 + b"\r\n" + ANOTHER[:end]: (204, b"", BEHIND) for end in (1, 9, 12, 15, 19, 24, len(ANOTHER))},
    **{H200 + LENGTH + b"\r\n{}" + ANOTHER[:end]: (200, b"{}", BEHIND) for end in (1, 12, 24)},
    **{H200 + CHUNKED + b"\r\n" + CHUNKS + ANOTHER[:end]: (200, b"{}", BEHIND) for end in (1, 12, 24)},
    H200 + LENGTH * 2 + b"\r\n{}H": (200, b"{}", f"{LENGTHS} {BEHIND}"),
    H200 + LENGTH + b"\r\n{}more": (200, b"{}", BEHIND),
    H200 + LENGTH + b"Connection: close\r\n\r\n{}more": (200, b"{}", BEHIND),
    H200 + LENGTH + b"\r\n{}" + H204 + b"\r\n": (200, b"{}", BEHIND),
    H200 + CHUNKED + b"\r\n" + CHUNKS + b"more": (200, b"{}", BEHIND),
    H200 + LENGTH * 2 + b"\r\n{}": (200, b"{}", LENGTHS),
    H200 + b"Content-length: 2 , 2\r\n\r\n{}": (200, b"{}", LENGTHS),
    H200 + LENGTH + CHUNKED + b"\r\n" + CHUNKS: (200, b"{}", LENGTHS),
    H200 + CHUNKED + b"Content-Length: 7\r\n\r\n" + CHUNKS: (200, b"{}", LENGTHS),
    H200 + LENGTH * 2 + b"\r\n{}more": (200, b"{}", f"{LENGTHS} {BEHIND}"),
    H200 + LENGTH + CHUNKED + b"\r\n{}": (200, b"{}", f"{LENGTHS} {UNREADABLE}"),
    H200 + LENGTH + CHUNKED + b"\r\nok": (200, b"ok", f"{LENGTHS} {UNREADABLE}"),
    H200 + LENGTH + CHUNKED + b"\r\n4 {}": (200, b"4 ", f"{LENGTHS} {UNREADABLE} {BEHIND}"),
    H200 + LENGTH + CHUNKED + b"\r\n2\r\n{}\r\nZZ\r\n": (200, b"{}", f"{LENGTHS} {UNREADABLE}"),
    H200 + LENGTH + CHUNKED + b"\r\n2;x=y\r\n{}\r\n0\r\n\r\n": (200, b"{}", LENGTHS),
    H200 + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nno trailer\r\n\r\n": (200, b"{}", UNREADABLE),
    H200 + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n{}": (200, b"{}", CODING),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + H204 + b"\r\n{}": (204, b"", BEHIND),
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
        answers = [(message, body) for message, body in found if message.code not in INTERIM]
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


# Under a head that says two things nobody knows whether they have ended.
BROKEN_OFF = {
    H200 + LENGTH + CHUNKED + b"\r\n": b"",
    H200 + LENGTH + CHUNKED + b"\r\n4": b"4",
    H200 + LENGTH + CHUNKED + b"\r\n42": b"42",
    H200 + b"Content-Length: 1\r\n" + CHUNKED + b"\r\n42": b"4",
    H200 + LENGTH + CHUNKED + b"\r\n{": b"{",
    H200 + LENGTH + CHUNKED + b"\r\n2\r\n{": b"{",
    H200 + LENGTH + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n": b"{}",
    H200 + b"Content-Length: 1\r\n" + LENGTH + CHUNKED + b"\r\nok": b"ok",
    H200 + LENGTH * 2 + b"\r\n{": b"{",
    H200 + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n{": b"{",
}


@pytest.mark.parametrize("answer", BROKEN_OFF, ids=repr)
@pytest.mark.parametrize("ending", ["quiet", "closed", "given up"])
def test_a_head_that_contradicts_itself_is_enough(
    answer: bytes, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a receiver that took the event is waited for, or called again."""
    monkeypatch.setattr(doubtful, "QUIET_SECONDS", 0.01)

    async def story(pieces: list[bytes]) -> tuple[bytes, str | None]:
        forgiving = parser()
        ((_, body),) = [message for piece in pieces for message in forgiving.feed_data(piece)[0]]
        assert not body.is_eof()
        if ending == "closed":
            forgiving.feed_eof()
        elif ending == "given up":
            assert forgiving.is_enough()
        async with asyncio.timeout(5):
            while not body.is_eof():
                await asyncio.sleep(0.005)
        found = await body.read()
        forgiving.feed_data(b"late")
        assert forgiving.feed_eof() is None
        return found, forgiving.remark

    for pieces in ([answer], [answer[at : at + 1] for at in range(len(answer))]):
        body, remark = asyncio.run(story(pieces))
        assert body == BROKEN_OFF[answer]
        assert remark is not None
        assert UNREADABLE in remark


def test_a_length_of_0_is_met_at_once_whatever_stands_beside_it() -> None:
    head = H200 + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n"
    assert read([head]) == (200, b"", LENGTHS)
    assert read([head + CHUNKS]) == (200, b"{}", LENGTHS)
    assert read([head + b"{}"]) == (200, b"", f"{LENGTHS} {UNREADABLE} {BEHIND}")


@pytest.mark.parametrize("ending", ["closed", "given up"])
def test_chunks_lack_nothing_but_their_last_line_end(ending: str) -> None:
    async def story(answer: bytes) -> str | None:
        forgiving = parser()
        ((_, body),) = forgiving.feed_data(answer)[0]
        if ending == "closed":
            forgiving.feed_eof()
        elif not forgiving.is_enough():
            raise HttpProcessingError
        assert await body.read() == b"{}"
        return forgiving.remark

    head = H200 + CHUNKED + b"\r\n"
    for whole in (CHUNKS[:-2], CHUNKS[:-2] + b"X: y\r\n"):
        assert asyncio.run(story(head + whole)) == UNREADABLE
    for broken in (b"", b"2\r\n{}", CHUNKS[:-7], CHUNKS[:-4], CHUNKS[:-2] + b"X: y"):
        with pytest.raises(HttpProcessingError):
            asyncio.run(story(head + broken))


def test_who_waits_for_an_end_that_nothing_tells_gives_up_with_an_answer() -> None:
    async def story(answer: bytes) -> tuple[bool, bytes, str | None]:
        forgiving = parser()
        ((_, body),) = forgiving.feed_data(answer)[0]
        return forgiving.is_enough(), await body.read(), forgiving.remark

    assert asyncio.run(story(H200 + b"\r\n{}")) == (True, b"{}", UNSAID)
    assert read([b"HTTP/1.1 205 Reset\r\n\r\n"]) == (205, b"", UNSAID)


@pytest.mark.parametrize("answer", [H200 + LENGTH + b"\r\n{", H200 + CHUNKED + b"\r\n2\r\n{"], ids=repr)
def test_a_body_that_breaks_off_under_a_clear_head_is_no_answer(answer: bytes) -> None:
    async def story() -> None:
        given_up, closed = parser(), parser()
        given_up.feed_data(answer)
        assert not given_up.is_enough()
        closed.feed_data(answer)
        with pytest.raises(HttpProcessingError):
            closed.feed_eof()

    asyncio.run(story())


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
