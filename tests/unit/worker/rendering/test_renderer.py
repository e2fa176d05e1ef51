"""Rendering in child processes: what is hostile ends a child, and nobody else's delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import psutil
import pytest
import uvloop

from shared.errors import Unavailable
from shared.templates.__main__ import MORE_MEMORY_BYTES
from shared.templates.jobs import Job, Part, Rendered
from shared.templates.language import TemplateError
from shared.templates.targets import Target
from shared.templates.template import template
from tests.subjects import subject
from worker.rendering import renderer as renderer_module
from worker.rendering.child import RenderProcess
from worker.rendering.renderer import Renderer

MINE, OTHERS = UUID(int=1), UUID(int=2)
T = TypeVar("T")

# Each takes the CPU, or the memory, that it can get.
SLOW = "{% for i in body.list %}{% for j in body.list %}{% assign x = body.big | upcase | downcase | sha256 %}{% endfor %}{% endfor %}"
BIG = {"big": "b" * 60_000, "list": list(range(90))}

# Each is far less than a child may have, two are more. Read, one takes about 11 MB.
DICTS: list[object] = [{}] * 120_000


def job(text: str, body: object = None, **given: object) -> Job:
    of = subject(body if body is not None else {"name": "Eve"})
    return Job(of, [Part("config.body", template(text, Target.TEXT))], **given)  # type: ignore[arg-type]


# What is read of the one, and written of the other, does not fit; and no filter's bound stops it.
HUNGRY = job("{{ body | size }}", [{}] * 340_000)
COPIES = job(
    "{% assign l = body.big | split: '---' %}"
    + "{% assign l = l | concat: l %}" * 16
    + "{{ l | json | size }}",
    BIG,
)


def with_renderer(do: Callable[[Renderer], Awaitable[T]]) -> T:
    async def now() -> T:
        renderer = Renderer()
        try:
            return await do(renderer)
        finally:
            await renderer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as a worker's engine
        return runner.run(now())


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "shared.templates" in " ".join(one.cmdline())]


def test_a_child_renders_as_this_process_does() -> None:
    jobs = [
        job(
            "{{ body.name | upcase }} {{ body.n | plus: 1 }}",
            {"name": "Eve", "n": n},
            condition="body.n < 90",
        )
        for n in range(100)
    ]

    async def all_of_them(renderer: Renderer) -> list[Rendered]:
        return await asyncio.gather(*(renderer.render(one, UUID(int=n % 3)) for n, one in enumerate(jobs)))

    found = with_renderer(all_of_them)
    assert [(one.holds, list(one.texts)) for one in found] == [
        (done.holds, list(done.texts)) for done in map(Job.done, jobs)
    ]
    assert [one.holds for one in found] == [True] * 90 + [False] * 10
    assert children() == [], "none is left when it is closed"


def test_what_takes_long_fails_alone_and_soon() -> None:
    """Fails when one job's time is another's, or when nobody ends what a filter does."""

    async def beside(renderer: Renderer) -> tuple[list[object], float]:
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)  # so that there is a child
        began = time.monotonic()
        found = await asyncio.gather(
            *(renderer.render(job("{{ body.name | upcase }}"), OTHERS) for _ in range(20)),
            renderer.render(job(SLOW, BIG), MINE),
            *(renderer.render(job("{{ body.name | upcase }}"), OTHERS) for _ in range(20)),
            return_exceptions=True,
        )
        return list(found), time.monotonic() - began

    found, seconds = with_renderer(beside)
    assert isinstance(found.pop(20), TemplateError)
    assert found == [Rendered(holds=True, texts=["EVE"])] * 40
    assert seconds < 5, "a child in reserve goes on"


def test_a_tenant_that_is_slow_waits_for_itself() -> None:
    """Fails when its jobs go on taking turns with everybody's: each would end everybody's child."""

    async def then(renderer: Renderer) -> tuple[set[int], set[int], list[object]]:
        with pytest.raises(TemplateError, match="250 ms"):
            await renderer.render(job(SLOW, BIG), MINE)
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)
        while len(children()) < 2:  # everybody's child, and the one in reserve
            await asyncio.sleep(0.01)
        before = {child.pid for child in children()}
        found = await asyncio.gather(
            *(renderer.render(job(SLOW, BIG), MINE) for _ in range(3)),
            *(renderer.render(job("{{ body.name | upcase }}"), OTHERS) for _ in range(3)),
            return_exceptions=True,
        )
        return before, {child.pid for child in children()}, list(found)

    before, after, found = with_renderer(then)
    assert before <= after, "nobody else's child was ended"
    assert all(isinstance(one, TemplateError) for one in found[:3])
    assert found[3:] == [Rendered(holds=True, texts=["EVE"])] * 3


def test_a_child_can_have_no_more_memory_than_it_may_have() -> None:
    """The kernel refuses it, whatever a template finds to fill it with."""

    async def then(renderer: Renderer) -> list[tuple[int, int]]:
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)
        found = []
        for child in children():
            while child.rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY:
                await asyncio.sleep(0.01)  # the one in reserve is still starting
            found.append((child.rlimit(psutil.RLIMIT_AS)[1], child.memory_info().vms))
        return found

    for limit_bytes, now_bytes in with_renderer(then):
        assert 0 < limit_bytes - now_bytes <= MORE_MEMORY_BYTES == 20 * 1024 * 1024


@pytest.mark.parametrize("hungry", [HUNGRY, COPIES], ids=["a body", "copies"])
def test_what_needs_more_memory_fails_alone(monkeypatch: pytest.MonkeyPatch, hungry: Job) -> None:
    """Fails when others wait for a child of which nobody asks what it died of."""
    monkeypatch.setattr(renderer_module, "PAUSE_SECONDS", 1_000.0)

    async def beside(renderer: Renderer) -> list[object]:
        quick = [renderer.render(job("{{ body.name | upcase }}"), OTHERS) for _ in range(10)]
        mine = [renderer.render(hungry, MINE) for _ in range(2)]
        return list(await asyncio.gather(*quick[:5], *mine, *quick[5:], return_exceptions=True))

    found = with_renderer(beside)
    failed = [found.pop(5), found.pop(5)]
    assert [str(one) for one in failed] == ["It takes more memory than a template may have."] * 2
    assert found == [Rendered(holds=True, texts=["EVE"])] * 10


def test_what_one_job_leaves_is_not_missing_to_the_next() -> None:
    """Fails when an error, or what was kept for later, holds memory that another tenant needs."""

    async def one_by_one(renderer: Renderer) -> list[object]:
        found: list[object] = []
        for _ in range(3):
            failing = renderer.render(job("{{ body | size | divided_by: 0 }}", DICTS), MINE)
            found += await asyncio.gather(failing, return_exceptions=True)
            found.append(await renderer.render(job("{{ body | size }}", DICTS), OTHERS))
        return found

    found = with_renderer(one_by_one)
    assert all("divide" in str(one) for one in found[::2])
    assert found[1::2] == [Rendered(holds=True, texts=["120000"])] * 3


def test_a_child_that_is_killed_at_a_job_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "PAUSE_SECONDS", 1_000.0)

    async def then(renderer: Renderer) -> list[object]:
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)
        child = renderer._quick._child
        assert child is not None
        begun = child.begun
        asked = [
            asyncio.create_task(renderer.render(job(text, BIG | {"name": "Eve"}), tenant))
            for text, tenant in ((SLOW, MINE), *[("{{ body.name | upcase }}", OTHERS)] * 5)
        ]
        while child.begun == begun:
            await asyncio.sleep(0.001)
        child._process.kill()
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, *others = with_renderer(then)
    assert "250 ms" in str(first), "it is tried once more"
    assert others == [Rendered(holds=True, texts=["EVE"])] * 5


def test_no_answer_is_taken_for_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a child that still owes an answer is asked again: a tenant would get another's."""
    heard = RenderProcess.hear
    times = iter(range(1_000))

    async def hear(self: RenderProcess) -> object:
        if next(times) == 0:
            raise RuntimeError
        return await heard(self)

    monkeypatch.setattr(RenderProcess, "hear", hear)

    async def then(renderer: Renderer) -> Rendered:
        with pytest.raises(Unavailable):
            await renderer.render(job("{{ body.name | upcase }}", {"name": "mine"}), MINE)
        return await renderer.render(job("{{ body.name | upcase }}", {"name": "theirs"}), OTHERS)

    assert with_renderer(then).texts == ["THEIRS"]


def test_what_cannot_be_told_fails_alone() -> None:
    deep: object = "x"
    for _ in range(300):
        deep = [deep]
    part = Part("config.body", template("{{ body.name | upcase }}", Target.TEXT))
    untold = Job(subject({"name": "Eve"}, answers={"before": {"body": deep}}), [part])

    async def beside(renderer: Renderer) -> list[object]:
        quick = [renderer.render(job("{{ body.name | upcase }}"), OTHERS) for _ in range(4)]
        asked = (*quick[:2], renderer.render(untold, MINE), *quick[2:])
        return list(await asyncio.gather(*asked, return_exceptions=True))

    found = with_renderer(beside)
    assert isinstance(found.pop(2), TemplateError)
    assert found == [Rendered(holds=True, texts=["EVE"])] * 4


def test_a_child_leaves_its_end_to_its_parent() -> None:
    """Fails when it goes first where all is told to stop, and a drain renders nothing more."""

    async def then(renderer: Renderer) -> tuple[set[int], set[int]]:
        await renderer.render(job("{{ body.name | upcase }}"), MINE)
        child = renderer._quick._child
        assert child is not None
        child._process.terminate()
        await renderer.render(job("{{ body.name | upcase }}"), MINE)
        return {child._process.pid}, {one.pid for one in children()}

    before, after = with_renderer(then)
    assert before <= after


def test_who_does_not_wait_any_more_is_passed_over() -> None:
    async def then(renderer: Renderer) -> Rendered:
        gone = asyncio.create_task(renderer.render(job(SLOW, BIG), MINE))
        await asyncio.sleep(0)
        gone.cancel()
        return await renderer.render(job("{{ body.name | upcase }}"), MINE)

    assert with_renderer(then).texts == ["EVE"]


def test_a_child_that_is_killed_costs_nobody_a_job() -> None:
    async def then(renderer: Renderer) -> list[Rendered]:
        await renderer.render(job("{{ body.name | upcase }}"), MINE)
        for child in children():
            child.kill()
        return await asyncio.gather(
            *(renderer.render(job("{{ body.name | upcase }}"), MINE) for _ in range(5))
        )

    assert with_renderer(then) == [Rendered(holds=True, texts=["EVE"])] * 5
