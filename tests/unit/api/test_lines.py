"""Exports: in order, bounded, and cut off where they cannot go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, cast
from uuid import UUID

import pytest

from api import lines as module
from api import sending
from api.caller import Caller
from api.lines import MAX_EXPORTS, MAX_OF_ONE, Flow, Lines, Read, SomeLines
from api.sending import CHUNK_BYTES, send_flow
from shared.errors import PointsmanError, TooMany, Unauthorized, Unavailable

OWNER, OTHER = UUID(int=1), UUID(int=9)
END = 4


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.stop()


class Hung:
    """A caller that has hung up."""

    async def gone(self) -> None:
        return


def pages(cursor: UUID | None) -> SomeLines:
    """Four pages, of which the first and the third are empty."""
    number = 1 if cursor is None else cursor.int
    text = b"" if number % 2 else b"%d\n" % number
    return SomeLines(text, None if number == END else UUID(int=number + 1))


def failing(times: int, error: PointsmanError, *, after: int = 0) -> Read:
    """A read that fails so often, from a page on, and then reads."""
    left = [error] * times

    def read(cursor: UUID | None) -> SomeLines:
        if left and (0 if cursor is None else cursor.int) >= after:
            raise left.pop()
        return pages(cursor)

    return read


async def taken(lines: Lines, read: Read = pages, owner: UUID = OWNER, caller: Any = None) -> list[bytes]:
    flow = await lines.begin(owner, read, caller)
    try:
        return [part async for part in flow.parts()]
    finally:
        flow.close()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_they_come_page_by_page_until_there_is_no_more(lines: Lines) -> None:
    """An empty page comes too: with the first one the head of the answer leaves."""
    assert run(taken(lines)) == [b"", b"2\n", b"", b"4\n"]


def test_one_user_has_a_few_at_a_time(lines: Lines) -> None:
    async def crowded() -> None:
        flows = [await lines.begin(OWNER, pages, None) for _ in range(MAX_OF_ONE)]
        with pytest.raises(TooMany) as raised:
            await lines.begin(OWNER, pages, None)
        assert raised.value.code == "too_many_exports"
        flows.append(await lines.begin(OTHER, pages, None))
        for flow in (flows[0], flows[0]):  # closed twice, it counts once
            flow.close()
        flows.append(await lines.begin(OWNER, pages, None))
        with pytest.raises(TooMany):
            await lines.begin(OWNER, pages, None)
        for flow in flows:
            flow.close()

    run(crowded())
    assert not lines._under_way
    assert not lines._turns


def test_a_process_gives_so_many(lines: Lines) -> None:
    async def crowded() -> None:
        owners = [UUID(int=10 + number // MAX_OF_ONE) for number in range(MAX_EXPORTS)]
        flows = [await lines.begin(owner, pages, None) for owner in owners]
        with pytest.raises(Unavailable):
            await lines.begin(OWNER, pages, None)
        flows[0].close()
        (await lines.begin(OWNER, pages, None)).close()

    run(crowded())


@pytest.mark.parametrize("after", [0, 3])
def test_who_may_not_ask_gets_no_more(lines: Lines, after: int) -> None:
    with pytest.raises(Unauthorized):
        run(taken(lines, failing(1, Unauthorized("revoked"), after=after)))
    assert not lines._under_way, "what could not begin does not count"


def test_a_page_that_cannot_be_read_now_is_read_later(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.01, 0.01))
    away = Unavailable("away")
    assert run(taken(lines, failing(2, away, after=3))) == [b"", b"2\n", b"", b"4\n"]
    with pytest.raises(Unavailable, match="away"):
        run(taken(lines, failing(3, away, after=3)))
    with pytest.raises(Unavailable, match="away"):
        run(taken(lines, failing(1, away)))  # nothing was answered yet: the caller asks again


def test_who_has_hung_up_gets_no_more(lines: Lines) -> None:
    def endless(_cursor: UUID | None) -> SomeLines:
        return SomeLines(b"x\n", UUID(int=1))

    assert len(run(taken(lines, endless, caller=cast(Caller, Hung())))) < 5


def test_at_a_stop_it_is_cut_off_and_none_begins(lines: Lines) -> None:
    async def stopped() -> None:
        flow = await lines.begin(OWNER, pages, None)
        lines.cut()
        with pytest.raises(Unavailable, match="stopping"):
            await lines.begin(OTHER, pages, None)
        assert [part async for part in flow.parts()]

    with pytest.raises(Unavailable, match="stopping"):
        run(stopped())


def test_a_cut_does_not_wait_for_the_page_under_way(lines: Lines) -> None:
    """Fails when a slow PostgreSQL holds up a process that is told to stop."""
    waits, goes_on = threading.Event(), threading.Event()

    def slow(_cursor: UUID | None) -> SomeLines:
        waits.set()
        goes_on.wait(10)
        return SomeLines(b"", None)

    async def stopped() -> float:
        reading = asyncio.create_task(lines.begin(OWNER, slow, None))
        await asyncio.to_thread(waits.wait, 10)
        began = time.monotonic()
        lines.cut()
        seconds = time.monotonic() - began
        goes_on.set()
        (await reading).close()
        return seconds

    assert run(stopped()) < 1


def test_one_user_has_one_page_read_at_a_time(lines: Lines) -> None:
    """Fails when four exports of one user take the thread four times before anybody else's turn."""
    order: list[str] = []

    def reading(name: str) -> Read:
        def read(cursor: UUID | None) -> SomeLines:
            order.append(name)
            time.sleep(0.02)
            return pages(cursor)

        return read

    async def crowd() -> None:
        mine = [lines.begin(OWNER, reading("mine"), None) for _ in range(MAX_OF_ONE)]
        other = lines.begin(OTHER, reading("other"), None)
        for flow in await asyncio.gather(*mine, other):
            flow.close()

    run(crowd())
    assert "other" in order[:2]


def sent_of(lines: Lines, read: Read) -> list[dict[str, Any]]:
    """What is sent of an export, as ASGI has it."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def answer() -> None:
        flow: Flow = await lines.begin(OWNER, read, None)
        await send_flow(send, 200, [("x-request-id", "r")], flow)

    run(answer())
    return messages


def test_the_head_leaves_before_there_is_a_line_and_the_end_is_marked(lines: Lines) -> None:
    start, *bodies = sent_of(lines, pages)
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert bodies[0] == {"type": "http.response.body", "body": b"", "more_body": True}
    assert b"".join(one["body"] for one in bodies) == b"2\n4\n"
    assert [one.get("more_body", False) for one in bodies] == [True] * (len(bodies) - 1) + [False]
    assert not lines._under_way


def test_a_long_page_leaves_in_chunks(lines: Lines) -> None:
    bodies = sent_of(lines, lambda _cursor: SomeLines(b"x" * (2 * CHUNK_BYTES + 1), None))[1:]
    assert [len(one["body"]) for one in bodies] == [CHUNK_BYTES, CHUNK_BYTES, 1, 0]


def test_it_does_not_last_for_ever_however_slowly_it_is_taken(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a client that takes a byte a minute keeps a place for as long as it likes."""
    monkeypatch.setattr(sending, "MAX_SECONDS", 0.05)

    async def never_taken(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(3_600)

    async def answer() -> None:
        await send_flow(never_taken, 200, [], await lines.begin(OWNER, pages, None))

    run(answer())
    assert not lines._under_way


def test_what_is_cut_off_has_no_end(lines: Lines) -> None:
    bodies = sent_of(lines, failing(1, Unauthorized("revoked"), after=3))[1:]
    assert b"".join(one["body"] for one in bodies) == b"2\n"
    assert all(one["more_body"] for one in bodies)
    assert not lines._under_way
