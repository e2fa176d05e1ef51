"""The executions of one step side by side, with a journal that only notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shared.errors import ClaimLost
from tests.unit.worker.engine.test_run import ONCE, Story, to
from worker.egress.messages import HttpRequest, HttpResponse
from worker.engine.attempt import LeaseLost
from worker.engine.entry import Entry, Parked
from worker.engine.run import carry
from worker.engine.state import Status


class Held:
    """An egress whose receivers answer when they are let go. most: how many were held at once."""

    def __init__(self, story: Story) -> None:
        self._answer = story.egress.request
        self.held: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.most = 0
        story.egress.request = self.request  # type: ignore[method-assign]

    async def request(self, request: HttpRequest) -> HttpResponse:
        path = request.url.rsplit("/", 1)[1]
        self.begun.append(path)
        self.held[path] = asyncio.Event()
        self.most = max(self.most, len(self.held))
        try:
            await self.held[path].wait()
        finally:
            del self.held[path]
        return await self._answer(request)

    def has_begun(self, count: int) -> bool:
        return len(self.begun) == count


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("places", [1, 3, 5])
def test_a_step_runs_in_as_many_at_a_time_as_its_run_has_places(places: int) -> None:
    """Fails when a step of a hundred takes a hundred connections."""
    story = Story(*(to(str(200 + n), n, parallel=True) for n in range(5)))
    story.run.places = places
    for execution in story.run.executions[places:]:
        execution.status, execution.attempt = Status.PENDING, 0
    held = Held(story)

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        for number in range(5):
            await until(partial(held.has_begun, min(places + number, 5)))
            held.held[str(200 + number)].set()
        await carrying

    asyncio.run(tell())
    assert story.statuses == ["SUCCESS"] * 5
    assert held.most == places
    assert [e.attempt for e in story.run.executions] == [1] * 5
    started = {e.action_id for entry, _ in story.journal.entries for e in entry.starting}
    assert started == {e.action_id for e in story.run.executions[places:]}, "each was committed RUNNING"


def test_a_retry_comes_when_it_is_due_though_its_sibling_still_hangs() -> None:
    """Fails when a failed one waits for the last of its siblings."""
    quick = {"maxAttempts": 2, "schedule": [0.05]}
    story = Story(to("503", 0, parallel=True, retry=quick), to("200", 1, parallel=True))
    held = Held(story)

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        await until(lambda: len(held.held) == 2)
        held.held["503"].set()
        await until(lambda: held.begun.count("503") == 2)
        assert "200" in held.held, "the sibling hangs"
        held.held["503"].set()
        await until(lambda: story.run.executions[0].ended)
        held.held["200"].set()
        await carrying

    asyncio.run(tell())
    assert story.statuses == ["FAILED", "SUCCESS"]
    assert story.run.executions[0].attempt == 2


def test_a_retry_that_is_due_takes_the_place_that_becomes_free() -> None:
    at_once = {"maxAttempts": 2, "schedule": [0]}
    story = Story(*(to(p, n, parallel=True, retry=at_once) for n, p in enumerate(["503", "200", "201"])))
    story.run.places = 2
    story.run.executions[2].status, story.run.executions[2].attempt = Status.PENDING, 0
    held = Held(story)

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        await until(lambda: len(held.held) == 2)
        held.held["503"].set()
        await until(lambda: held.begun.count("503") == 2)
        assert held.begun == ["503", "200", "503"], "in the order of the step"
        held.held["503"].set()
        await until(lambda: "201" in held.held)
        for path in ("200", "201"):
            held.held[path].set()
        await carrying

    asyncio.run(tell())
    assert held.most == 2
    assert story.statuses == ["FAILED", "SUCCESS", "SUCCESS"]


def test_a_run_whose_siblings_all_wait_for_later_is_parked() -> None:
    story = Story(*(to("503", n, parallel=True) for n in range(3)))
    story.tell()
    assert story.statuses == ["PENDING"] * 3
    end = story.journal.last
    assert isinstance(end, Parked)
    assert end.delay_seconds == pytest.approx(5, abs=1.1)


def test_a_fault_begins_nothing_more_and_lets_the_others_end() -> None:
    """Fails when what runs beside a fault is cut off, or goes on unwritten."""
    story = Story(*(to(str(200 + n), n, parallel=True, retry=ONCE) for n in range(4)))
    story.run.places = 3
    story.run.executions[3].status, story.run.executions[3].attempt = Status.PENDING, 0
    held = Held(story)

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        await until(lambda: len(held.held) == 3)
        story.journal.answer = lambda entry: (
            ClaimLost("It is another's.") if story.run.executions[0] in entry.changed else {}
        )
        held.held["200"].set()
        await until(lambda: "200" not in held.held)
        await asyncio.sleep(0.02)
        assert not carrying.done()
        held.held["201"].set()
        held.held["202"].set()
        await carrying

    with pytest.raises(ClaimLost):
        asyncio.run(tell())
    assert held.begun == ["200", "201", "202"]
    written = [e.action_id for entry, _ in story.journal.entries for e in entry.changed]
    assert written == [e.action_id for e in story.run.executions[:3]]


def test_without_a_lease_no_sibling_starts() -> None:
    story = Story(*(to("200", n, parallel=True) for n in range(3)), started=False)
    with pytest.raises(LeaseLost):
        story.tell()
    assert story.egress.requests == []


def test_a_run_that_is_cancelled_cuts_off_what_it_runs() -> None:
    story = Story(*(to(str(200 + n), n, parallel=True) for n in range(3)))
    held = Held(story)

    async def tell() -> None:
        carrying = asyncio.create_task(carry(story.run, story.services))
        await until(lambda: len(held.held) == 3)
        carrying.cancel()
        await carrying

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tell())
    assert held.held == {}
    assert story.statuses == ["RUNNING"] * 3


class TestResponses:
    """What receivers have answered is kept until it is written, and counted until then."""

    LARGE = b"x" * 5_000

    def story(self) -> tuple[Story, list[int]]:
        story = Story(to("200", 0), to("201", 1))
        small = story.egress.request

        async def request(request: HttpRequest) -> HttpResponse:
            answer = await small(request)
            return HttpResponse(answer.status, (), self.LARGE, False)

        story.egress.request = request  # type: ignore[method-assign]
        held: list[int] = []
        answer = story.journal.answer

        def note(entry: Entry) -> Any:
            held.append(story.room._bytes.used)
            return answer(entry)

        story.journal.answer = note
        return story, held

    def test_they_are_dropped_once_they_are_written(self) -> None:
        story, held = self.story()
        before = story.room._bytes.used
        story.tell()
        assert held == [before + len(self.LARGE), before + len(self.LARGE)]
        first, last = story.run.executions
        assert first.outcome is not None
        assert first.outcome.response is None
        assert (first.status_code, last.status_code) == (200, 201)
        responses = [row.response for entry, _ in story.journal.entries for row in entry.rows]
        assert all(response and self.LARGE.decode() in response for response in responses)
        assert len(responses) == 2

    def test_a_run_that_leaves_gives_everything_back(self) -> None:
        story, _ = self.story()
        story.tell()
        story.room.leave(story.run.id)
        assert story.room._bytes.used == 0
