"""Rendering in child processes: what is hostile ends a child, and nobody else's delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import psutil
import pytest

from shared.templates.jobs import Job, Part, Rendered
from shared.templates.language import TemplateError
from shared.templates.targets import Target
from shared.templates.template import template
from tests.subjects import subject
from worker.rendering.renderer import Renderer

MINE, OTHERS = UUID(int=1), UUID(int=2)
T = TypeVar("T")

# Each takes the CPU, or the memory, that it can get.
SLOW = "{% for i in body.list %}{% for j in body.list %}{% assign x = body.big | upcase | downcase | sha256 %}{% endfor %}{% endfor %}"
LARGE = "{% assign a = body.big | split: '' %}{% assign b = a | concat: a | sort %}{% assign c = b | reverse | map: 'x' %}{{ c | json }}"
BIG = {"big": "b" * 60_000, "list": list(range(90))}


def job(text: str, body: object = None, **given: object) -> Job:
    of = subject(body if body is not None else {"name": "Eve"})
    return Job(of, [Part("config.body", template(text, Target.TEXT))], **given)  # type: ignore[arg-type]


def with_renderer(do: Callable[[Renderer], Awaitable[T]]) -> T:
    async def now() -> T:
        renderer = Renderer()
        try:
            return await do(renderer)
        finally:
            await renderer.close()

    return asyncio.run(now())


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
    """Fails when its jobs go on taking turns with everybody's."""

    async def then(renderer: Renderer) -> tuple[int, float]:
        with pytest.raises(TemplateError, match="250 ms"):
            await renderer.render(job(SLOW, BIG), MINE)
        many = [asyncio.create_task(renderer.render(job(SLOW, BIG), MINE)) for _ in range(10)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)
        seconds = time.monotonic() - began
        ended = sum(one.done() for one in many)
        for one in many:
            one.cancel()
        return ended, seconds

    ended, _ = with_renderer(then)
    assert ended < 5, "others are done while most of its own wait"


def test_a_child_has_no_more_memory_than_it_may_have() -> None:
    async def then(renderer: Renderer) -> tuple[object, int]:
        await renderer.render(job("{{ body.name | upcase }}"), OTHERS)
        (child, *_) = children()
        before = child.memory_info().rss
        (found,) = await asyncio.gather(
            renderer.render(job(LARGE, {"big": "b" * 1_000_000}), OTHERS), return_exceptions=True
        )
        after = max((one.memory_info().rss for one in children()), default=0)
        return found, after - before

    found, grown_bytes = with_renderer(then)
    assert isinstance(found, TemplateError)
    assert grown_bytes < 25 * 1024 * 1024


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
