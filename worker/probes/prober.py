"""The thread that claims probes, has them tried on the engine's loop, and writes their results.

Invariants:

- A probe is sent once at most: it is claimed before, and what was claimed is never claimed again.
- At most MAX_AT_ONCE are under way here, each of another user, beside the places that runs have. So
  no probe takes a place from a delivery.
- Whatever becomes of one, it ends with a result, within the callback's time limit and what
  preparing may take.
- A result that cannot be written yet is kept until it is.
- What a receiver has answered is searched for secrets in the prober's own thread: that takes a
  time, and the loop is for deliveries.

It looks when it is told that one waits, through Redis or by the sweep, and whenever one has ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg2
import structlog

from shared.clock import database_clock
from shared.crypto import SecretBox
from shared.errors import PointsmanError
from shared.json_text import to_json
from shared.postgres.connections import OwnedConnection
from shared.postgres.statements import PLANNED_ONCE, transaction
from shared.probes import moves
from shared.probes.moves import ClaimedProbe
from shared.probes.request import opened_request
from shared.threads import OwnedThread
from worker.actions import perform
from worker.actions.contract import AttemptStamp, Outcome
from worker.engine.preparing import SKIPPED
from worker.engine.services import RunServices
from worker.probes.shown import result_of
from worker.probes.trials import Trial, read_trial
from worker.probes.watched import Watched, WatchedDoors
from worker.records import ActionRecord

MAX_AT_ONCE = 8
CALL_SECONDS = 5.0

# Beyond the callback's time limit: templates wait for their process, and are rendered in it.
PREPARE_SECONDS = 15.0

# After a failure of PostgreSQL.
PAUSE_SECONDS = 1.0

# What is cancelled at the end of a drain has so long to be written.
LAST_SECONDS = 2.0

GONE = Outcome.permanent("gone", "What was to be tested was deleted meanwhile.")
BROKEN = Outcome.permanent("internal_error", "Pointsman failed during this probe; its log says why.")
STOPPED = Outcome.permanent("worker_stopped", "The worker stopped during this probe: it may have been sent.")
LATE = Outcome.permanent("timeout", "The probe took too long.")

log = structlog.get_logger("probes")


class Host(Protocol):
    """What of an engine a prober needs."""

    @property
    def services(self) -> RunServices: ...

    @property
    def worker_id(self) -> UUID: ...

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]: ...


class Ending(NamedTuple):
    """How a probe has ended. action: None if it was not even read. It shows nothing of itself."""

    outcome: Outcome
    watched: Watched
    action: ActionRecord | None = None
    duration_ms: int = 0

    def __repr__(self) -> str:
        return f"Ending(code={self.outcome.code!r})"


class Prober:
    """Tries the probes of one worker process."""

    def __init__(self, database_url: str, secrets: SecretBox, host: Host) -> None:
        self._connection = OwnedConnection(
            database_url, "probes", call_seconds=CALL_SECONDS, autocommit=True, settings=PLANNED_ONCE
        )
        self._secrets = secrets
        self._host = host
        self._wake = threading.Condition()
        self._is_told = False
        self._is_draining = False
        self._is_stopping = False
        # Under way, by id: as whom they were claimed, and what cancels them.
        self._held: dict[UUID, UUID] = {}
        self._cancels: dict[UUID, Callable[[], object]] = {}
        # Those whose results are not written yet.
        self._ended: dict[UUID, Ending] = {}
        self.thread = OwnedThread("probes", self._run)

    def start(self) -> None:
        self.thread.start()

    def look(self) -> None:
        """A probe waits, maybe. Never waits itself."""
        with self._wake:
            self._is_told = True
            self._wake.notify_all()

    def begin_to_stop(self) -> None:
        """Claim nothing more."""
        with self._wake:
            self._is_draining = True
            self._wake.notify_all()

    def stop(self, seconds: float) -> None:
        """Let those under way end within this time, end the rest, and write what became of them."""
        self.begin_to_stop()
        self._wait_until_empty(seconds)
        with self._wake:
            left = list(self._cancels.values())
        for cancel in left:
            cancel()
        self._wait_until_empty(LAST_SECONDS)
        self.thread.stop(self._end, LAST_SECONDS)

    def _end(self) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()

    def _wait_until_empty(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: not self._held, seconds)

    # its thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work)
                if self._is_stopping:
                    break
                self._is_told, ended = False, dict(self._ended)
            try:
                self._write(ended)
                self._claim()
            except psycopg2.Error as error:
                log.warning("probes_wait", error=type(error).__name__)
                time.sleep(PAUSE_SECONDS)
            except Exception:  # a fault here must not end a process that delivers
                log.exception("prober_broken")
                time.sleep(PAUSE_SECONDS)
        self._connection.close()

    def _has_work(self) -> bool:
        return self._is_told or bool(self._ended) or self._is_stopping

    def _write(self, ended: dict[UUID, Ending]) -> None:
        for probe_id, ending in ended.items():
            result = self._sealed_result(probe_id, ending)
            with self._connection.transaction() as cursor:
                if not moves.end(cursor, probe_id, self._held[probe_id], result):
                    log.info("probe_lost", probe=str(probe_id))
            with self._wake:
                del self._ended[probe_id], self._held[probe_id]
                self._is_told = True  # there is room for another one
                self._wake.notify_all()
            self._host.services.tell(probe_id)

    def _sealed_result(self, probe_id: UUID, ending: Ending) -> str:
        try:
            result = self._result(ending)
        except Exception:
            log.exception("probe_not_shown", probe=str(probe_id))
            result = self._result(Ending(BROKEN, Watched()))
        return self._secrets.encrypt(to_json(result))

    def _result(self, ending: Ending) -> dict[str, Any]:
        outcome, watched, action, duration_ms = ending
        return result_of(
            outcome,
            watched,
            kind="" if action is None else action.type,
            duration_ms=duration_ms,
            secrets=self._credential_of(action),
            skipped=outcome is SKIPPED,
        )

    def _credential_of(self, action: ActionRecord | None) -> list[str]:
        """The secret of an action's credential, if it can be opened."""
        if action is None or action.credential is None:
            return []
        try:
            return [self._secrets.decrypt(action.credential.secret)]
        except PointsmanError:
            return []

    def _claim(self) -> None:
        room = MAX_AT_ONCE - len(self._held)
        if room <= 0 or self._is_draining or not self._host.services.may_start():
            return
        worker_id = self._host.worker_id
        with self._connection.transaction() as cursor:
            if moves.give_back(cursor, worker_id, self._held):
                log.info("probes_given_back")
            claimed = moves.claim(cursor, worker_id, room)
        with self._wake:
            self._held |= {one.id: worker_id for one in claimed}
        for one in claimed:
            self._begin(one)

    def _begin(self, claimed: ClaimedProbe) -> None:
        try:
            request = opened_request(claimed.request, self._secrets)
            with transaction(self._connection) as statements:
                trial = read_trial(statements, claimed, request, self._host.services)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it ends this probe and no other
            self._conclude(claimed.id, Ending(_outcome_of(error, claimed), Watched()))
            return
        if trial is None:
            self._conclude(claimed.id, Ending(GONE, Watched()))
            return
        with self._wake:
            self._cancels[claimed.id] = self._host.begin(self._try(claimed.id, trial))

    # the engine's loop

    async def _try(self, probe_id: UUID, trial: Trial) -> None:
        started, watched = time.monotonic(), Watched()
        try:
            async with asyncio.timeout(trial.context.callback.timeout_ms / 1000 + PREPARE_SECONDS):
                outcome = await self._perform(trial, watched)
        except TimeoutError:
            outcome = LATE
        except asyncio.CancelledError:
            outcome = STOPPED
        except Exception:
            log.exception("probe_broken", probe=str(probe_id))
            outcome = BROKEN
        duration_ms = int((time.monotonic() - started) * 1000)
        self._conclude(probe_id, Ending(outcome, watched, trial.action, duration_ms))

    async def _perform(self, trial: Trial, watched: Watched) -> Outcome:
        services, credential = self._host.services, trial.action.credential
        prepared = await services.preparing.prepare(trial.action, trial.context)
        if isinstance(prepared, Outcome):
            return prepared
        if credential is not None:
            services.uses.note(credential.id)
        stamp = AttemptStamp(1, database_clock.now_ms() // 1000)
        return await perform(prepared, stamp, WatchedDoors(services.doors, watched))

    def _conclude(self, probe_id: UUID, ending: Ending) -> None:
        """Note how a probe has ended, to be written."""
        log.info(
            "probe_ended",
            probe=str(probe_id),
            type="" if ending.action is None else ending.action.type,
            code=ending.outcome.code,
            status_code=ending.outcome.status_code,
            duration_ms=ending.duration_ms,
        )
        with self._wake:
            self._ended[probe_id] = ending
            self._cancels.pop(probe_id, None)
            self._wake.notify_all()


def _outcome_of(error: Exception, claimed: ClaimedProbe) -> Outcome:
    """What becomes of a probe whose rows cannot be read."""
    if isinstance(error, PointsmanError):
        return Outcome.permanent(error.code, error.message)
    log.error("probe_broken", probe=str(claimed.id), exc_info=error)
    return BROKEN
