"""The Celery side of a worker process.

Celery carries hints and owns the process's life; the engine does the work. The engine is a bootstep
that starts after the pool and so stops before it: draining frees the tasks that wait for room, then
the pool can end. A task only hands ids over and waits, a bounded time, for room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
from celery import Celery, bootsteps

from shared.config import Settings
from shared.crypto import SecretBox
from shared.redis.hints import HintSender
from shared.redis.queues import HINT_TASK, MAX_HINT_IDS, PROBE_TASK, make_celery
from worker.engine.engine import Engine
from worker.hint_request import HintRequest
from worker.maintenance.dead_workers import DeadWorkers
from worker.maintenance.due import Due
from worker.maintenance.duty import Duty
from worker.maintenance.expired import Expired
from worker.maintenance.partitions import Partitions
from worker.maintenance.probes import Probes
from worker.maintenance.purge import Purge
from worker.maintenance.replays import Replays
from worker.maintenance.sweep import Sweep, stop_together
from worker.probes.prober import Prober
from worker.suspects.apart import SuspectsApart

# So many hints may wait for room at once; each then holds one message un-acknowledged.
HINT_THREADS = 4

# A hint waits so long for room. That is far below the visibility timeout of a message.
ROOM_WAIT_SECONDS = 60.0

# Beyond the grace time the suspects' processes have so long to release what they have.
SUSPECTS_SECONDS = 2.0

# What was lost with a worker waits so long for room.
LOST_WAIT_SECONDS = 0.5

# Longer than the longest way of a batch: the queue, a flush, a new connection, a flush again.
PURGE_QUIET_SECONDS = 5.0

log = structlog.get_logger("worker")


def make_worker_app(settings: Settings) -> Celery:
    """The Celery application of one worker process, with its engine and its sweep."""
    app = make_celery(settings.redis, settings.lanes)
    suspects = SuspectsApart(settings, lambda ids: _offer(engine, ids))
    secrets = SecretBox(settings.keys)
    engine = Engine(settings, secrets, suspected=suspects.found)
    prober = Prober(settings.postgres, secrets, engine)
    engine.also_end(prober.stop)
    sender = HintSender(app, settings.redis)
    due = Due(sender, engine, settings.sweep_seconds)
    probes = Probes(settings.sweep_seconds, prober.look, engine.services.tell)
    sweeps = make_sweeps(settings, due, lambda ids: _offer(engine, ids), probes)
    for thread in (*(sweep.thread for sweep in sweeps), *suspects.threads, prober.thread):
        engine.also_watch(thread)

    class EngineStep(bootsteps.StartStopStep):  # type: ignore[misc,unused-ignore]
        """Starts the engine and the sweeps with the worker, and drains them at its end."""

        requires = {"celery.worker.components:Pool"}  # noqa: RUF012 - Celery's name and type

        def start(self, parent: Any) -> None:  # noqa: ARG002
            engine.start()
            prober.start()
            suspects.start()
            for sweep in sweeps:
                sweep.start()

        def stop(self, parent: Any) -> None:  # noqa: ARG002
            stop_together(sweeps)
            suspects.begin_to_stop()
            prober.begin_to_stop()
            deadline = time.monotonic() + settings.drain_seconds + SUSPECTS_SECONDS
            engine.stop()
            suspects.stop(max(deadline - time.monotonic(), 0.0))

    app.steps["worker"].add(EngineStep)

    @app.task(name=HINT_TASK, ignore_result=True, Request=HintRequest)  # type: ignore[untyped-decorator,unused-ignore]
    def hint(ids: list[str]) -> None:
        """Look at these triggers."""
        if not engine.offer([UUID(trigger_id) for trigger_id in ids[:MAX_HINT_IDS]], ROOM_WAIT_SECONDS):
            log.info("hint_given_up", ids=len(ids))

    @app.task(name=PROBE_TASK, ignore_result=True, Request=HintRequest)  # type: ignore[untyped-decorator,unused-ignore]
    def probe() -> None:
        """Look whether probes wait."""
        prober.look()

    return app


def _offer(engine: Engine, ids: Sequence[UUID]) -> None:
    """Offer what was lost with a worker, as far as there is room; the sweep hints the rest."""
    for start in range(0, len(ids), MAX_HINT_IDS):
        if not engine.offer(ids[start : start + MAX_HINT_IDS], LOST_WAIT_SECONDS):
            return


def make_sweeps(
    settings: Settings,
    due: Due,
    lost: Callable[[Sequence[UUID]], None] = lambda _ids: None,
    probes: Probes | None = None,
) -> list[Sweep]:
    """The maintenance duties of one worker process.

    `due` waits for Redis and for the engine, so that it has a thread of its own; so has the duty
    that judges heartbeats, which must not come late. lost: told of the runs of dead workers.
    """
    dead_workers = DeadWorkers(
        settings.stale_seconds,
        settings.sweep_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        lost=lost,
    )
    duties: list[Duty] = [
        Purge(quiet_seconds=PURGE_QUIET_SECONDS + 5 * settings.accept_timeout_seconds),
        Replays(),
        Expired(),
        Partitions(),
        probes or Probes(settings.sweep_seconds),
    ]
    return [
        Sweep("sweep", settings.postgres, duties),
        Sweep("reminders", settings.postgres, [due]),
        Sweep("dead-workers", settings.postgres, [dead_workers]),
    ]
