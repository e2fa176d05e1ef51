"""The sweep: threads that do the maintenance duties of one worker process.

Invariants:

- Each duty has its own timer.
- A duty that fails is logged and tried again at its next time; it never ends its thread.

The other duties of a thread wait for one duty's whole pass. Each call of it is bounded by
CALL_SECONDS; a pass makes several. So a duty that waits for anything but PostgreSQL has a thread of
its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import psycopg2
import structlog

from shared import metrics
from shared.postgres.connections import OwnedConnection
from shared.threads import OwnedThread
from worker.maintenance.duty import Duty

CALL_SECONDS = 30.0

# A duty that is in a slow call for longer is left to end with the process.
STOP_SECONDS = 2.0

# Each pause is longer by up to this share, so that the sweeps of many processes do not meet.
JITTER = 0.2

log = structlog.get_logger("maintenance")


class Sweep:
    """Does duties in one thread until it is stopped. name: of the thread and of its connection."""

    def __init__(self, name: str, database_url: str, duties: Sequence[Duty]) -> None:
        self._connection = OwnedConnection(database_url, name, call_seconds=CALL_SECONDS)
        self._next = {duty.name: 0.0 for duty in duties}
        self.duties = tuple(duties)
        self._stop = threading.Event()
        self.thread = OwnedThread(name, self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Do no other duty, and wait a bounded time for the one under way; False if it goes on."""
        return self.thread.stop(self._stop.set, seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            for duty in self.duties:
                if time.monotonic() >= self._next[duty.name] and not self._stop.is_set():
                    self._do(duty)
            self._stop.wait(max(min(self._next.values()) - time.monotonic(), 0.01))
        self._connection.close()

    def _do(self, duty: Duty) -> None:
        started = time.monotonic()
        try:
            repaired = duty.do(self._connection)
        except psycopg2.Error as error:
            log.warning("duty_failed", duty=duty.name, error=str(error).strip().split("\n", 1)[0][:200])
        except Exception:
            log.exception("duty_broken", duty=duty.name)
        else:
            if repaired:
                metrics.sweep_repairs.labels(duty.name).inc(repaired)
                log.debug("duty_done", duty=duty.name, repaired=repaired)
        metrics.sweep_seconds.labels(duty.name).observe(time.monotonic() - started)
        pause = duty.interval_seconds * (1 + JITTER * random.random())  # noqa: S311 - spreads timers, nothing secret
        self._next[duty.name] = time.monotonic() + pause


def stop_together(sweeps: Sequence[Sweep]) -> bool:
    """Stop these in the time for one; False if a duty goes on."""
    deadline = time.monotonic() + STOP_SECONDS
    for sweep in sweeps:
        sweep.stop(0.0)
    return all(sweep.stop(max(deadline - time.monotonic(), 0.0)) for sweep in sweeps)
