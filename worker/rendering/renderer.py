"""Has jobs rendered by child processes, those of one moment together.

Invariants:

- A job that ends its child fails alone, whatever that dies of. What waited behind it is done by the
  next child, and counts nothing of it.
- A job that needs too much memory, or dies of nobody knows what, is done once more by a new child
  before it fails: what others have left in the old one is not its fault.
- A child that may owe an answer is never asked again, so that no answer is taken for another's.
- A tenant whose job took long goes to a child that only such tenants have, for a while, and they
  take turns there.
- Nothing waits for a clock: a job is bounded by the CPU that it takes, so that a busy machine fails
  nobody's delivery. Only a child that does nothing at all is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from shared.errors import PointsmanError, Unavailable
from shared.templates.apart import CPU_SECONDS, RAN_OUT_OF_TIME, ended_by_job
from shared.templates.jobs import Job, Rendered, chars_in, told
from shared.templates.language import TemplateError
from worker.rendering.child import RenderProcess

MAX_BATCH = 64
MAX_BATCH_BYTES = 4 * 1024 * 1024

# A tenant whose job takes more of CPU is slow for so long; one whose job ended its child, longer.
SLOW_US = 20_000
SLOW_FOR_SECONDS = 60.0
DEADLY_FOR_SECONDS = 600.0
MAX_SLOW_TENANTS = 10_000

# A child that has not come further in so long hangs.
SILENCE_SECONDS = 30.0
MAX_TRIES = 3
PAUSE_SECONDS = 1.0
IDLE_SECONDS = 60.0

log = structlog.get_logger("rendering")


@dataclass(slots=True)
class _Asked:
    job: Job
    tenant: UUID
    rendered: asyncio.Future[Rendered]
    tries: int = 0


class Renderer:
    """The rendering of one worker. Lives on its loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._slow_until: OrderedDict[UUID, float] = OrderedDict()
        self._quick = _Lane(self._took, has_reserve=True)
        self._slow = _Lane(self._took, has_reserve=False)

    async def render(self, job: Job, tenant: UUID) -> Rendered:
        """What a job comes to. Raises TemplateError, and Unavailable if no child can be had."""
        is_slow = self._slow_until.get(tenant, 0.0) > self._monotonic()
        lane = self._slow if is_slow else self._quick
        return await lane.render(job, tenant)

    async def close(self) -> None:
        """End the children."""
        await self._quick.close()
        await self._slow.close()

    def _took(self, tenant: UUID, cpu_us: int | None) -> None:
        """A tenant's job took so much, or ended its child."""
        if cpu_us is not None and cpu_us <= SLOW_US:
            return
        seconds = DEADLY_FOR_SECONDS if cpu_us is None else SLOW_FOR_SECONDS
        until = self._monotonic() + seconds
        self._slow_until[tenant] = max(self._slow_until.pop(tenant, 0.0), until)
        if len(self._slow_until) > MAX_SLOW_TENANTS:
            self._slow_until.popitem(last=False)


class _Lane:
    """Jobs that one child does, batch by batch; the tenants take turns within each."""

    def __init__(self, took: Callable[[UUID, int | None], None], *, has_reserve: bool) -> None:
        self._took = took
        self._has_reserve = has_reserve
        self._asked: OrderedDict[UUID, deque[_Asked]] = OrderedDict()
        self._child: RenderProcess | None = None
        self._reserve: asyncio.Task[RenderProcess] | None = None
        self._working: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()

    async def render(self, job: Job, tenant: UUID) -> Rendered:
        asked = _Asked(job, tenant, asyncio.get_running_loop().create_future())
        self._asked.setdefault(tenant, deque()).append(asked)
        self._wanted.set()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await asked.rendered

    async def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait((self._working,))
        await self._retire()

    async def _retire(self) -> None:
        """End the child and the one in reserve."""
        child, self._child = self._child, None
        reserve, self._reserve = self._reserve, None
        if child is not None:
            await child.end()
        if reserve is not None:
            with contextlib.suppress(OSError):
                await (await reserve).end()

    async def _work(self) -> None:
        """Do what is asked for; end when nothing is for a while."""
        while True:
            batch = self._take()
            if batch:
                await self._do_safely(batch)
                continue
            self._wanted.clear()
            try:
                await asyncio.wait_for(self._wanted.wait(), IDLE_SECONDS)
            except TimeoutError:
                if not self._asked:
                    await self._retire()
                    return

    async def _do_safely(self, batch: list[_Asked]) -> None:
        try:
            await self._do(batch)
        except Exception:
            log.exception("rendering_broken", jobs=len(batch))
            for asked in batch:
                if not asked.rendered.done():
                    asked.rendered.set_exception(_unrendered())

    def _take(self) -> list[_Asked]:
        """The next ones: the tenants take turns. Those of one trigger stand together."""
        batch: list[_Asked] = []
        size_bytes = 0
        while self._asked and len(batch) < MAX_BATCH and size_bytes < MAX_BATCH_BYTES:
            tenant, theirs = self._asked.popitem(last=False)
            asked = theirs.popleft()
            if theirs:
                self._asked[tenant] = theirs
            if not asked.rendered.done():  # nobody waits for it any more
                batch.append(asked)
                size_bytes += len(asked.job.subject.body) + chars_in(asked.job.subject.answers)
        return sorted(batch, key=lambda one: one.job.subject.trigger_id)

    async def _do(self, batch: list[_Asked]) -> None:
        batch, frames = _told(batch)
        try:
            child = await self._living()
        except OSError as error:
            log.error("renderer_not_started", error=str(error))
            await self._again(batch)
            return
        before = child.told
        done = 0
        try:
            async with asyncio.timeout(None) as deadline:
                telling = asyncio.create_task(child.tell(frames))
                try:
                    for asked in batch:
                        deadline.reschedule(asyncio.get_running_loop().time() + SILENCE_SECONDS)
                        self._answer(asked, await child.hear())
                        done += 1
                finally:
                    telling.cancel()
        except (EOFError, TimeoutError):
            self._child = None
            begun = child.begun - before
            code = await child.end()
            await self._died(batch[done:], code, was_at_work=begun > done)
        except BaseException:
            self._child = None
            await child.end()
            raise

    def _answer(self, asked: _Asked, said: tuple[bool, list[str], str | None, int]) -> None:
        holds, texts, error, cpu_us = said
        self._took(asked.tenant, cpu_us)
        if asked.rendered.done():
            return
        if error is None:
            asked.rendered.set_result(Rendered(holds, texts))
        else:
            asked.rendered.set_exception(TemplateError(error))

    async def _died(self, left: list[_Asked], code: int, *, was_at_work: bool) -> None:
        """Go on without a child that has died, at the first of what is left if it was at work."""
        fault = ended_by_job(code) if was_at_work else None
        if fault is None:
            log.warning("renderer_died", jobs=len(left), code=code)
        if not was_at_work:
            await self._again(left)
            return
        at_work, *others = left
        for asked in reversed(others):
            self._asked.setdefault(asked.tenant, deque()).appendleft(asked)
            self._asked.move_to_end(asked.tenant, last=False)
        at_work.tries += 1
        if code == RAN_OUT_OF_TIME or at_work.tries > 1:
            self._fail(at_work, fault or _unrendered())
        elif not at_work.rendered.done():
            await self._do([at_work])

    def _fail(self, asked: _Asked, error: PointsmanError) -> None:
        """A job has ended its child."""
        self._took(asked.tenant, None)
        if not asked.rendered.done():
            asked.rendered.set_exception(error)

    async def _again(self, batch: list[_Asked]) -> None:
        """Nobody is to blame, or nobody knows who: try again, not for ever, after a pause."""
        for asked in batch:
            asked.tries += 1
            if asked.tries < MAX_TRIES:
                self._asked.setdefault(asked.tenant, deque()).append(asked)
            elif not asked.rendered.done():
                asked.rendered.set_exception(_unrendered())
        await asyncio.sleep(PAUSE_SECONDS)

    async def _living(self) -> RenderProcess:
        """The child, the one in reserve, or a new one; raises OSError."""
        if self._child is None:
            reserve, self._reserve = self._reserve, None
            self._child = await (reserve if reserve is not None else RenderProcess.start(CPU_SECONDS))
        if self._has_reserve and self._reserve is None:
            self._reserve = asyncio.create_task(RenderProcess.start(CPU_SECONDS))
        return self._child


def _unrendered() -> Unavailable:
    return Unavailable("Nothing could be rendered just now.")


def _told(batch: list[_Asked]) -> tuple[list[_Asked], list[bytes]]:
    """What can be told of these, and each as a frame: a subject that is that of the job before is
    not sent again. What cannot be told has failed.
    """
    can_be_told: list[_Asked] = []
    frames: list[bytes] = []
    for asked in batch:
        again = bool(can_be_told) and can_be_told[-1].job.subject == asked.job.subject
        try:
            frames.append(told(asked.job, again=again))
        except TemplateError as error:
            asked.rendered.set_exception(error)
        else:
            can_be_told.append(asked)
    return can_be_told, frames
