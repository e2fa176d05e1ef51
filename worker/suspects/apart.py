"""A worker's side of its suspects' processes: it starts, feeds and buries them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

import psycopg2
import structlog

from shared import metrics
from shared.config import Settings
from shared.ids import new_id
from shared.postgres.connections import OwnedConnection
from shared.redis.queues import MAX_HINT_IDS
from shared.runs import give_back
from shared.threads import OwnedThread
from worker.maintenance.dead_workers import bury
from worker.suspects import MAX_TOGETHER, NO_BOUND, ONCE

COMMAND = (sys.executable, "-m", "worker.suspects")
CALL_SECONDS = 5.0

# So many wait for a child that begins or is busy; the sweep hints the others again.
MAX_WAITING = 1_000

# Of an id in a line: with its quotes and a comma.
ID_CHARS = 39

# After one that could not be started, or died, so long passes until the next.
PAUSE_SECONDS = 0.5

# One that was killed is gone, and what it had released, in so long.
KILLED_SECONDS = 2.0

log = structlog.get_logger("suspects")


class SuspectsApart:
    """The processes of one worker's suspects: one for those lost once, one for all others.

    lost: told of the runs that were lost with a child.
    """

    def __init__(self, settings: Settings, lost: Callable[[Sequence[UUID]], None]) -> None:
        self._once = Apart("suspects", settings, MAX_TOGETHER, ONCE, lost)
        self._often = Apart("suspects-alone", settings, 1, NO_BOUND, lost)

    @property
    def threads(self) -> tuple[OwnedThread, OwnedThread]:
        return self._once.thread, self._often.thread

    def start(self) -> None:
        self._once.start()
        self._often.start()

    def found(self, losses: Mapping[UUID, int]) -> None:
        """These were lost so often. Never waits."""
        self._once.offer([one for one, count in losses.items() if count <= ONCE])
        self._often.offer([one for one, count in losses.items() if count > ONCE])

    def begin_to_stop(self) -> None:
        """Tell the children to drain."""
        self._once.begin_to_stop()
        self._often.begin_to_stop()

    def stop(self, seconds: float) -> None:
        """Wait at most so long until they have ended."""
        deadline = time.monotonic() + seconds
        for one in (self._once, self._often):
            one.stop(max(deadline - time.monotonic(), 0.0))


class Apart:
    """One child at a time, and what waits for it."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        capacity: int,
        max_losses: int,
        lost: Callable[[Sequence[UUID]], None],
    ) -> None:
        self._settings = settings
        self._capacity = capacity
        self._max_losses = max_losses
        self._lost = lost
        self._connection = OwnedConnection(settings.postgres, name, call_seconds=CALL_SECONDS)
        self._wake = threading.Condition()
        self._waiting: dict[UUID, None] = {}
        self._child: _Child | None = None
        self._stopping = False
        self.thread = OwnedThread(name, self._run)

    def start(self) -> None:
        self.thread.start()

    def begin_to_stop(self) -> None:
        self.thread.stop(self._end, 0.0)

    def stop(self, seconds: float) -> None:
        """Wait so long until the child has drained, then kill it: what it has is released."""
        if self.thread.stop(self._end, seconds):
            return
        with self._wake:
            if self._child is not None:
                log.error("suspects_killed", pid=self._child.pid)
                self._child.kill()
        self.thread.stop(self._end, KILLED_SECONDS)

    def _end(self) -> None:
        with self._wake:
            self._stopping = True
            self._waiting.clear()
            if self._child is not None:
                self._child.end()
            self._wake.notify()

    def offer(self, ids: Sequence[UUID]) -> None:
        """Hand these to the child, or start one. Never waits; what is too much is forgotten."""
        with self._wake:
            if self._stopping or not ids:
                return
            for trigger_id in ids[: MAX_WAITING - len(self._waiting)]:
                self._waiting[trigger_id] = None
            self._feed()
            self._wake.notify()

    def _feed(self) -> None:
        if self._child is None:
            return
        while self._waiting:
            ids = list(itertools.islice(self._waiting, self._child.most_ids))
            if not self._child.tell(ids):
                break  # it is behind: the rest waits for the next offer
            for trigger_id in ids:
                del self._waiting[trigger_id]

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    self._connection.close()
                    return
            self._accompany()

    def _accompany(self) -> None:
        """Start a child, feed it, and see it to its end."""
        try:
            child = _Child(self._capacity, self._max_losses)
        except OSError as error:
            log.error("suspects_not_started", error=type(error).__name__)
            time.sleep(PAUSE_SECONDS)
            return
        log.info("suspects_started", pid=child.pid, capacity=self._capacity)
        with self._wake:
            self._child = child
            self._feed()
            if self._stopping:
                child.end()
        for heard in child.idle():
            with self._wake:
                self._feed()
                if heard == child.told:
                    child.close()  # nothing is on its way to it
        with self._wake:  # nobody tells it anything any more, nor signals what may not be it
            self._child = None
            child.close()
            stopping = self._stopping
        code = child.wait()
        if code == 0:
            log.info("suspects_ended", pid=child.pid)
        elif stopping:
            self._release(child)
        else:
            self._clear_up(child, code)
            time.sleep(PAUSE_SECONDS)

    def _release(self, child: _Child) -> None:
        """Give back what a child had that was ended with its worker: that is no loss."""
        log.info("suspects_ended", pid=child.pid, released=True)
        try:
            with self._connection.transaction() as cursor:
                held = give_back.held_by(cursor, child.worker_id)
                give_back.release_stranded(cursor, child.worker_id, sorted(held))
                bury(cursor, str(child.worker_id), [])
        except psycopg2.Error as error:
            log.warning("suspects_not_cleared", error=type(error).__name__)

    def _clear_up(self, child: _Child, code: int) -> None:
        """Take from a dead child what it had."""
        lost: list[str] = []
        try:
            with self._connection.transaction() as cursor:
                lost = give_back.void(cursor, str(child.worker_id))
                bury(cursor, str(child.worker_id), lost)
        except psycopg2.Error as error:  # the sweep finds it dead like any worker
            log.warning("suspects_not_cleared", error=type(error).__name__)
        metrics.suspects_died.inc()
        log.warning("suspects_died", pid=child.pid, code=code, worker=str(child.worker_id), runs=len(lost))
        if lost:
            self._lost([UUID(trigger_id) for trigger_id in lost])


class _Child:
    """One process. told: how many lines it was told."""

    def __init__(self, capacity: int, max_losses: int) -> None:
        self.worker_id = new_id()
        self.told = 0
        hear, say = os.pipe()
        self._says = os.fdopen(hear)
        given = (self.worker_id, capacity, max_losses, say)
        try:
            self._process = subprocess.Popen(
                [*COMMAND, *map(str, given)],
                stdin=subprocess.PIPE,
                pass_fds=[say],
            )
        except OSError:
            self._says.close()
            raise
        finally:
            os.close(say)
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        # what is no longer than that is written whole or not at all
        self.most_ids = min((os.fpathconf(descriptor, "PC_PIPE_BUF") - 2) // ID_CHARS, MAX_HINT_IDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, ids: Sequence[UUID]) -> bool:
        """Hand over ids. False when it takes nothing just now."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return False
        line = json.dumps([str(trigger_id) for trigger_id in ids], separators=(",", ":")) + "\n"
        try:
            os.write(self._process.stdin.fileno(), line.encode())
        except (BlockingIOError, BrokenPipeError):
            return False
        self.told += 1
        return True

    def idle(self) -> Iterator[int]:
        """Each time that it says it has nothing to do, how many lines it had heard."""
        with self._says:
            for line in self._says:
                yield int(line)

    def close(self) -> None:
        """Let it end when it has nothing in hand, or drain."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """Let it drain."""
        self.close()
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        return self._process.wait()
