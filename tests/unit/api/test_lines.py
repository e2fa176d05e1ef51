"""Answers of many lines: in order, bounded, and cut off where they cannot go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import pytest

from api import lines as module
from api.caller import Caller
from api.lines import MOST, MOST_OF_ONE, Flow, Lines, SomeLines
from shared.errors import PointsmanError, TooMany, Unauthorized, Unavailable

OWNER = UUID(int=1)
FIRST = SomeLines(b"1\n", UUID(int=2))


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.stop()


class Hung:
    """A caller that has hung up."""

    async def gone(self) -> None:
        return


async def taken(flow: Flow) -> list[bytes]:
    try:
        return [part async for part in flow.parts()]
    finally:
        flow.close()


def page(cursor: UUID) -> SomeLines:
    """Three pages, of which the second is empty."""
    return {2: SomeLines(b"", UUID(int=3)), 3: SomeLines(b"3\n", None)}[cursor.int]


def test_they_come_page_by_page_until_there_is_no_more(lines: Lines) -> None:
    assert asyncio.run(taken(lines.begin(OWNER, FIRST, page, None))) == [b"1\n", b"3\n"]
    assert asyncio.run(taken(lines.begin(OWNER, SomeLines(b"", None), page, None))) == []


def test_one_user_takes_a_few_at_a_time(lines: Lines) -> None:
    flows = [lines.begin(OWNER, FIRST, page, None) for _ in range(MOST_OF_ONE)]
    with pytest.raises(TooMany) as raised:
        lines.begin(OWNER, FIRST, page, None)
    assert raised.value.code == "too_many_exports"
    other = lines.begin(UUID(int=9), FIRST, page, None)
    for flow in (flows[0], flows[0]):  # closed twice, it counts once
        flow.close()
    flows.append(lines.begin(OWNER, FIRST, page, None))
    with pytest.raises(TooMany):
        lines.begin(OWNER, FIRST, page, None)
    for flow in (*flows, other):
        flow.close()


def test_a_process_gives_so_many(lines: Lines) -> None:
    owners = [UUID(int=1 + number // MOST_OF_ONE) for number in range(MOST)]
    flows = [lines.begin(owner, FIRST, page, None) for owner in owners]
    with pytest.raises(Unavailable):
        lines.begin(UUID(int=99), FIRST, page, None)
    for flow in flows:
        flow.close()
    lines.begin(UUID(int=99), FIRST, page, None).close()


def failing(times: int, error: PointsmanError) -> Any:
    """A read that fails so often, and then reads."""
    left = [error] * times

    def read(cursor: UUID) -> SomeLines:
        if left:
            raise left.pop()
        return page(cursor)

    return read


def test_a_page_that_cannot_be_read_now_is_read_later(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    read = failing(3, Unavailable("away"))
    assert asyncio.run(taken(lines.begin(OWNER, FIRST, read, None))) == [b"1\n", b"3\n"]
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    with pytest.raises(Unavailable):
        asyncio.run(taken(lines.begin(OWNER, FIRST, failing(99, Unavailable("away")), None)))


def test_who_may_not_ask_any_more_gets_no_more(lines: Lines) -> None:
    with pytest.raises(Unauthorized):
        asyncio.run(taken(lines.begin(OWNER, FIRST, failing(1, Unauthorized("revoked")), None)))
    lines.begin(OWNER, FIRST, page, None).close()
    assert not lines._under_way.total()


def test_who_has_hung_up_gets_no_more(lines: Lines) -> None:
    async def endless() -> int:
        flow = lines.begin(OWNER, FIRST, lambda cursor: SomeLines(b"x\n", cursor), cast(Caller, Hung()))
        count = 0
        async for _ in flow.parts():
            count += 1
            await asyncio.sleep(0)
        flow.close()
        return count

    assert asyncio.run(asyncio.wait_for(endless(), 10)) < 5


def test_at_a_stop_it_is_cut_off_at_once(lines: Lines) -> None:
    async def stopped() -> None:
        flow = lines.begin(OWNER, FIRST, failing(10**6, Unavailable("away")), None)
        asyncio.get_running_loop().call_later(0.05, lines.stop)
        await taken(flow)

    began = time.monotonic()
    with pytest.raises(Unavailable):
        asyncio.run(stopped())
    assert time.monotonic() - began < module.RETRY_SECONDS / 2
