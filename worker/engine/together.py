"""The executions of one step, side by side: as many at a time as their run has places.

Invariants:

- Each end is on its way to the journal before anything else is waited for.
- A retry comes when it is due, also while a sibling hangs.
- After a fault in one, or a lost claim, no other is begun, and what runs comes to its end.
"""

from __future__ import annotations

import asyncio

from shared.clock import database_clock
from worker.engine.attempt import attempt_until_later, start, write_end
from worker.engine.services import RunServices
from worker.engine.state import Execution, HeldRun, Status
from worker.engine.steps import is_due


async def carry_step(
    run: HeldRun, of_step: tuple[Execution, ...], changed: list[Execution], services: RunServices
) -> list[Execution]:
    """Attempt what is due of a step until nothing of it runs and nothing is due.

    of_step: all of it that has not ended. `changed` is written with the first that is begun.
    Returns what is still to be written, with what follows; the caller asks again what that is.
    """
    if len(of_step) > 1:
        return await _Siblings(run, of_step, services).carry(changed)
    (execution,) = of_step
    if execution.status is Status.PENDING:
        return await start(run, of_step, changed, services)
    if not await attempt_until_later(run, execution, services):
        changed = [*changed, execution]
    return changed


class _Siblings:
    def __init__(self, run: HeldRun, of_step: tuple[Execution, ...], services: RunServices) -> None:
        self._run = run
        self._of_step = of_step
        self._services = services
        self._running: dict[asyncio.Task[None], Execution] = {}
        self._unwritten = 0  # attempts that run, or whose ends are being written
        self._last: list[Execution] = []

    async def carry(self, changed: list[Execution]) -> list[Execution]:
        try:
            while True:
                changed = await self._begin_due(changed)
                if not self._running:
                    return [*changed, *self._last]
                await self._wait_until_something_happens()
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            await self._wait_for_all()
            raise
        except Exception:
            await self._wait_for_all()
            raise

    async def _begin_due(self, changed: list[Execution]) -> list[Execution]:
        """Begin what is due, as far as there are places. Returns what is still to be written."""
        while due := self._due()[: self._run.places - len(self._running)]:
            waiting = tuple(e for e in due if e.status is Status.PENDING)
            for execution in due:
                if execution.status is Status.RUNNING:
                    self._unwritten += 1
                    self._running[asyncio.create_task(self._attempt(execution))] = execution
            if waiting:
                last, self._last = self._last, []
                changed = await start(self._run, waiting, [*changed, *last], self._services)
        return changed

    def _due(self) -> list[Execution]:
        now, in_hand = database_clock.now(), set(self._running.values())
        return [e for e in self._of_step if not e.ended and e not in in_hand and is_due(e, now)]

    async def _attempt(self, execution: Execution) -> None:
        try:
            if await attempt_until_later(self._run, execution, self._services):
                return
            if self._unwritten == 1 and not self._due():
                self._last.append(execution)
            else:
                await write_end(self._run, execution, self._services)
        finally:
            self._unwritten -= 1

    async def _wait_until_something_happens(self) -> None:
        """One has ended, or a retry is due and has a place. Raises what an attempt has raised."""
        seconds = None
        if len(self._running) < self._run.places:
            in_hand = set(self._running.values())  # one whose end is being written among them
            later = [
                e.next_attempt_at
                for e in self._of_step
                if e.status is Status.PENDING and e.next_attempt_at and e not in in_hand
            ]
            if later:
                seconds = max((min(later) - database_clock.now()).total_seconds(), 0.0)
        ended, _ = await asyncio.wait(self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            del self._running[task]
        faults = [task.exception() for task in ended]  # each is retrieved
        for fault in filter(None, faults):
            raise fault

    async def _wait_for_all(self) -> None:
        """Let what runs come to its end; how the last one ended is written, too."""
        await asyncio.gather(*self._running, return_exceptions=True)
        for execution in self._last:
            await write_end(self._run, execution, self._services)
