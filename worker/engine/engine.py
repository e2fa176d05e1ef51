"""The engine of a worker process: an asyncio loop, and the threads around it.

The loop carries runs and makes no database call; claim, journal, heartbeat and maintenance each own
a thread and a connection. What action types need to reach the outside is behind their doors: the
engine knows no type and no door by name. offer() is the only way in. stop() ends when every run has
ended or has been released, within the grace time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
import uvloop

from shared import metrics
from shared.config import Settings
from shared.crypto import SecretBox
from shared.errors import ClaimLost
from shared.redis.settlements import Announcer
from shared.threads import EX_SOFTWARE, OwnedThread, first_dead
from worker.actions import KINDS
from worker.actions.contract import Limits
from worker.doors import CLOSE_SECONDS, Doors
from worker.engine.attempt import LeaseLost
from worker.engine.claim import Claimer
from worker.engine.heartbeat import Heartbeat
from worker.engine.intake import Intake, Suspected
from worker.engine.journal import Journal
from worker.engine.preparing import Preparing
from worker.engine.room import Room
from worker.engine.run import carry, fail, release
from worker.engine.services import RunServices
from worker.engine.state import HeldRun
from worker.engine.uses import CredentialUses
from worker.rendering.renderer import Renderer

TICK_SECONDS = 0.25
FIRST_FAIL_PAUSE_SECONDS = 1.0
MAX_FAIL_PAUSE_SECONDS = 60.0
START_SECONDS = 10.0

# What is released at the end of the grace time has so long to be written.
RELEASE_SECONDS = 3.0

# A loop that is busy has so long to answer.
LOOP_SECONDS = 1.0

log = structlog.get_logger("engine")


class Engine:
    """Carries the runs of one process.

    worker_id: as whom; by default a new one. max_losses: what was lost with more workers is not
    claimed here, and suspected is told of it, by id how often; it must not wait.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: SecretBox,
        *,
        worker_id: UUID | None = None,
        max_losses: int = 0,
        suspected: Suspected = lambda _losses: None,
    ) -> None:
        self._settings = settings
        self._room = Room.of(settings)
        self._loop = uvloop.new_event_loop()
        self._loop_thread = OwnedThread("engine", self._run_loop)
        self._ticked_at = time.monotonic()
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._draining = False
        self._journal = Journal(settings.postgres)
        self._doors = Doors.make((kind.DOOR for kind in KINDS.values()), settings)
        uses = CredentialUses()
        self._heartbeat = Heartbeat(
            settings,
            settings.postgres,
            self._room,
            lambda: self._ticked_at,
            self._lost_lease,
            self._dead_thread,
            worker_id,
            secrets,
            uses,
        )
        self._intake = Intake(
            Claimer(settings.postgres, self._room),
            self._room,
            lambda: self._heartbeat.worker_id,
            self._heartbeat.holds_lease,
            self._deliver,
            max_losses=max_losses,
            suspected=suspected,
        )
        self._besides: list[Callable[[float], None]] = []
        self._announcer = Announcer(settings.redis)
        self._renderer = Renderer()
        self._services = RunServices(
            journal=self._journal,
            room=self._room,
            doors=self._doors,
            preparing=Preparing(secrets, self._renderer),
            secrets=secrets,
            limits=Limits.of(settings),
            may_start=self._heartbeat.holds_lease,
            tell=self._announcer.tell,
            uses=uses,
        )
        self._watched = [
            self._loop_thread,
            self._journal.thread,
            self._intake.thread,
            self._heartbeat.thread,
            self._announcer.thread,
        ]

    def also_watch(self, thread: OwnedThread) -> None:
        """End the process when this one dies, as when one of the engine's does."""
        self._watched.append(thread)

    def also_end(self, end: Callable[[float], None]) -> None:
        """Call this when it stops, with the rest of the grace time: end what uses its loop."""
        self._besides.append(end)

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run a coroutine on the loop, beside the runs; returns what cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).cancel

    @property
    def services(self) -> RunServices:
        """What its runs use."""
        return self._services

    @property
    def worker_id(self) -> UUID:
        """As whom it claims now."""
        return self._heartbeat.worker_id

    @property
    def in_flight(self) -> int:
        """Runs in memory."""
        return len(self._room)

    @property
    def free(self) -> int:
        """Runs that fit in now. None without a lease or when draining: nothing would be claimed."""
        return 0 if self._draining or not self._heartbeat.holds_lease() else self._room.free()

    @property
    def is_idle(self) -> bool:
        """Whether it carries nothing, and nothing is on offer."""
        return self._intake.is_idle

    @property
    def seconds_since_tick(self) -> float:
        """How long the loop has been at one thing."""
        return time.monotonic() - self._ticked_at

    @property
    def appetite(self) -> int:
        """Runs that would be kept until there is room. None without a lease or when draining."""
        return 0 if self._draining or not self._heartbeat.holds_lease() else self._intake.appetite

    def crowded(self) -> list[UUID]:
        """The tenants of whom nothing more is to be offered: too much of theirs waits here."""
        return self._intake.crowded()

    def start(self) -> None:
        self._loop_thread.start()
        self._call(self._doors.open_all(), START_SECONDS)
        self._call(self._tick_once(), START_SECONDS)
        self._journal.start()
        self._announcer.start()
        self._intake.start()
        self._heartbeat.start()
        log.info("engine_started", worker=str(self._heartbeat.worker_id), capacity=self._settings.capacity)

    def offer(self, ids: Sequence[UUID], wait_seconds: float) -> bool:
        """Offer trigger ids; False when there was no room for all of them within the wait."""
        return self._intake.offer(ids, wait_seconds)

    def keep(self, users: Mapping[UUID, UUID]) -> bool:
        """Keep runs that are due, each with its tenant, until there is room; False at the end."""
        return self._intake.keep(users)

    def stop(self) -> None:
        """Drain: claim nothing more, let runs end, release what has not ended in the grace time."""
        if self._draining:
            return
        self._draining = True
        started = time.monotonic()
        log.info("draining", runs=self.in_flight, grace_seconds=self._settings.drain_seconds)
        self._intake.stop()
        self._wait_until_empty(self._settings.drain_seconds)
        for end in self._besides:
            end(max(started + self._settings.drain_seconds - time.monotonic(), 0.0))
        self._call_at_last(self._cancel_all(), RELEASE_SECONDS)
        self._wait_until_empty(RELEASE_SECONDS)
        self._journal.stop(RELEASE_SECONDS)
        self._call_at_last(self._renderer.close(), LOOP_SECONDS)
        self._call_at_last(self._doors.close_all(), CLOSE_SECONDS + LOOP_SECONDS)
        self._announcer.stop()
        self._heartbeat.stop()
        self._loop_thread.stop(self._end_loop, 2)
        log.info("engine_stopped", seconds=round(time.monotonic() - started, 2), left=self.in_flight)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    # the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _tick_once(self) -> None:
        self._tick()

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()
        dead = self._dead_thread()  # the heartbeat's among them, which looks at the others, and at this one
        if dead is not None:
            log.critical("thread_died", thread=dead)
            os._exit(EX_SOFTWARE)
        metrics.runs_in_flight.set(len(self._tasks))
        if self._tasks and not self._draining and not self._heartbeat.holds_lease():
            for task in self._tasks.values():  # the heartbeat's own thread may be stuck in a slow call
                task.cancel()
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _start_runs(self, runs: list[HeldRun]) -> None:
        for run in runs:
            task = self._loop.create_task(self._carry(run))
            self._tasks[run.id] = task
            task.add_done_callback(lambda _task, run_id=run.id: self._forget(run_id))

    def _forget(self, run_id: UUID) -> None:
        """Let go of a task that has ended.

        It may have run none of its code: it was cancelled before its first step.
        """
        self._tasks.pop(run_id, None)
        self._room.leave(run_id)

    async def _carry(self, run: HeldRun) -> None:
        try:
            await carry(run, self._services)
        except ClaimLost:
            log.info("claim_lost", trigger=str(run.id), claim=run.claim)
        except LeaseLost:
            log.info("run_dropped", trigger=str(run.id), reason="no lease")
        except asyncio.CancelledError:
            if self._draining:
                await self._release(run)
        except Exception:
            log.exception("run_broken", trigger=str(run.id))
            await self._fail(run)

    async def _release(self, run: HeldRun) -> None:
        try:
            await release(run, self._services, "released")
        except ClaimLost:
            pass  # it settled while it was being cancelled
        except Exception as error:  # noqa: BLE001 - the sweep of another worker finds what stays behind
            log.warning("release_failed", trigger=str(run.id), error=type(error).__name__)

    async def _fail(self, run: HeldRun) -> None:
        """End a run in which we have failed, so that its side effects are not repeated for ever.

        While that cannot be written the run is kept here: let go, it would be claimed and sent
        again.
        """
        pause_seconds = FIRST_FAIL_PAUSE_SECONDS
        while True:
            try:
                await fail(run, self._services, "internal_error", "Pointsman failed; its log says why.")
            except ClaimLost:
                return
            except Exception:
                log.exception("run_stranded", trigger=str(run.id), again_in_seconds=pause_seconds)
            else:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, MAX_FAIL_PAUSE_SECONDS)

    async def _cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    # other threads

    def _deliver(self, runs: list[HeldRun]) -> None:
        self._loop.call_soon_threadsafe(self._start_runs, runs)

    def _lost_lease(self, reason: str) -> None:
        log.warning("runs_cancelled", reason=reason, runs=self.in_flight)
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop)

    def _dead_thread(self) -> str | None:
        if self._draining:
            return None
        return first_dead(self._watched) or self._doors.dead_thread()

    def _call(self, coroutine: Coroutine[Any, Any, None], timeout_seconds: float) -> None:
        """Run a coroutine on the loop and wait for its end, a bounded time.

        TimeoutError: that time is over. The coroutine is cancelled, so that it does nothing beside
        what follows.
        """
        ended = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            ended.result(timeout_seconds)
        except TimeoutError:
            ended.cancel()
            raise

    def _call_at_last(self, coroutine: Coroutine[Any, Any, None], timeout_seconds: float) -> None:
        """The same; whatever goes wrong must not keep stop() from its end."""
        try:
            self._call(coroutine, timeout_seconds)
        except TimeoutError:
            log.error("loop_does_not_answer", seconds=timeout_seconds)
        except Exception:  # a coroutine that was cancelled among them
            log.exception("stop_goes_on")

    def _wait_until_empty(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._room.changed:
            while len(self._room) and (left := deadline - time.monotonic()) > 0:
                self._room.wait_for_leave(left)
