"""Takes offers of trigger ids and claims what fits, in a thread of its own.

An offer comes from a hint task or from the sweep. It waits here for room, holding no connection; that
wait is the back-pressure on Celery. When its time is over it is forgotten: the sweep hints it again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg2
import structlog

from worker.engine.claim import Claimer
from worker.engine.room import Room
from worker.engine.state import Run

MAX_CLAIM_IDS = 200
IDLE_WAIT_SECONDS = 0.5
OUTAGE_PAUSE_SECONDS = 0.5
STOP_SECONDS = 3.0

log = structlog.get_logger("intake")


class _Offer:
    __slots__ = ("done", "ids")

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids = deque(ids)
        self.done = threading.Event()


class Intake:
    """Claims for the engine. may_claim: whether the lease is held; deliver: hands claimed runs to the loop."""

    def __init__(
        self,
        claimer: Claimer,
        room: Room,
        worker_id: Callable[[], UUID],
        may_claim: Callable[[], bool],
        deliver: Callable[[list[Run]], None],
    ) -> None:
        self._claimer = claimer
        self._room = room
        self._worker_id = worker_id
        self._may_claim = may_claim
        self._deliver = deliver
        self._offers: deque[_Offer] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="claim", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing more and free whoever waits for room. Waits, not for ever, until a claim under way is delivered."""
        with self._room.changed:
            self._stopping = True
            self._forget_all()
            self._room.changed.notify_all()
        self._thread.join(STOP_SECONDS)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def offer(self, ids: Sequence[UUID], wait_seconds: float) -> bool:
        """Offer ids; wait until they have been looked at. False when there was no room in that time."""
        offer = _Offer(ids)
        with self._room.changed:
            if self._stopping:
                return False
            self._offers.append(offer)
            self._room.changed.notify_all()
        if offer.done.wait(wait_seconds):
            return not self._stopping
        with self._room.changed:
            if offer in self._offers:
                self._offers.remove(offer)
        return False

    def _forget_all(self) -> None:
        for offer in self._offers:
            offer.done.set()
        self._offers.clear()

    def _run(self) -> None:
        while True:
            ids, finished = self._take()
            if not self._stopping:
                self._claim(ids)
            for offer in finished:
                offer.done.set()
            if self._stopping:
                self._claimer.close()
                return

    def _take(self) -> tuple[list[UUID], list[_Offer]]:
        """Wait for offers and room; take as many ids as fit, and say which offers end with them."""
        ids: list[UUID] = []
        finished: list[_Offer] = []
        with self._room.changed:
            while not self._stopping:
                room = min(self._room.free(), MAX_CLAIM_IDS) if self._may_claim() else 0
                if self._offers and room > 0:
                    break
                self._room.changed.wait(IDLE_WAIT_SECONDS if self._offers else None)
            while not self._stopping and self._offers and len(ids) < room:
                offer = self._offers[0]
                while offer.ids and len(ids) < room:
                    ids.append(offer.ids.popleft())
                if not offer.ids:
                    finished.append(self._offers.popleft())
        return ids, finished

    def _claim(self, ids: Sequence[UUID]) -> None:
        wanted = self._room.without_held(ids)
        if not wanted:
            return
        try:
            self._claimer.claim(self._worker_id(), wanted, self._take_in)
        except psycopg2.Error as error:
            log.warning("claim_failed", ids=len(wanted), error=str(error).strip().split("\n", 1)[0][:200])
            time.sleep(OUTAGE_PAUSE_SECONDS)
        except Exception:
            log.exception("claim_broken", ids=len(wanted))

    def _take_in(self, runs: list[Run]) -> None:
        """Hold what one commit claimed and hand it to the loop, at once: until then reconcile calls it stranded."""
        for run in runs:
            self._room.take(run.id, run.size_bytes)
        self._deliver(runs)
