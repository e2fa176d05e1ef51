"""Takes offers of trigger ids and claims what fits, in a thread of its own.

An offer comes from a hint task or from the sweep. It waits here for room, holding no connection;
that wait is the back-pressure on Celery. When its time is over it is forgotten: the sweep hints it
again. What was lost with a worker is left to the turns of the suspects.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg2
import structlog

from shared.threads import OwnedThread
from worker.engine.claim import Claimer
from worker.engine.room import Room
from worker.engine.state import HeldRun
from worker.engine.suspects import Allowance, Suspects

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


@dataclass(frozen=True, slots=True)
class _Portion:
    """What one claim asks for. ended: the offers of which nothing is left then.

    unconfirmed: asks only whether these are suspects still.
    """

    ids: Sequence[UUID] = ()
    ended: Sequence[_Offer] = ()
    max_losses: int = 0
    unconfirmed: Sequence[UUID] = ()


class Intake:
    """Claims for the engine.

    may_claim: whether the lease is held; deliver: hands claimed runs to the loop.
    """

    def __init__(
        self,
        claimer: Claimer,
        room: Room,
        worker_id: Callable[[], UUID],
        may_claim: Callable[[], bool],
        deliver: Callable[[list[HeldRun]], None],
    ) -> None:
        self._claimer = claimer
        self._room = room
        self._worker_id = worker_id
        self._may_claim = may_claim
        self._deliver = deliver
        self._offers: deque[_Offer] = deque()
        self._suspects = Suspects(room)
        self._stopping = False
        self.thread = OwnedThread("claim", self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Claim nothing more and free whoever waits for room.

        Waits, not for ever, until a claim under way is delivered.
        """
        self.thread.stop(self._end, STOP_SECONDS)

    def _end(self) -> None:
        with self._room.changed:
            self._stopping = True
            self._forget_all()
            self._room.changed.notify_all()

    @property
    def free(self) -> int:
        """How many more runs would be claimed now if they were offered."""
        with self._room.changed:
            return 0 if self._suspects.in_turn else self._room.free()

    def offer(self, ids: Sequence[UUID], wait_seconds: float) -> bool:
        """Offer ids; wait until they have been looked at.

        False when there was no room in that time.
        """
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
            portion = self._take()
            if not self._stopping:
                self._do(portion)
            for offer in portion.ended:
                offer.done.set()
            if self._stopping:
                self._claimer.close()
                return

    def _take(self) -> _Portion:
        """Wait until something may be claimed: suspects in their turn, or offered ids that fit."""
        with self._room.changed:
            while not self._stopping:
                allowance = self._suspects.allowance(bool(self._offers)) if self._may_claim() else Allowance()
                if allowance.unconfirmed:
                    return _Portion(unconfirmed=allowance.unconfirmed)
                if allowance.suspects:
                    self._suspects.forget(allowance.suspects)
                    return _Portion(allowance.suspects, max_losses=allowance.max_losses)
                if self._offers and allowance.ordinary > 0:
                    return self._take_offered(min(allowance.ordinary, MAX_CLAIM_IDS))
                # a turn must end in time although nobody can offer anything while it lasts
                if self._offers or self._suspects.wait or self._suspects.in_turn:
                    self._room.wait_for_leave(IDLE_WAIT_SECONDS)
                else:
                    self._room.changed.wait()  # for an offer, or the end
        return _Portion()

    def _take_offered(self, room: int) -> _Portion:
        ids: list[UUID] = []
        ended: list[_Offer] = []
        while self._offers and len(ids) < room:
            offer = self._offers[0]
            while offer.ids and len(ids) < room:
                ids.append(offer.ids.popleft())
            if not offer.ids:
                ended.append(self._offers.popleft())
        return _Portion(ids, ended)

    def _do(self, portion: _Portion) -> None:
        """Claim, or ask. What fails is logged and forgotten: the sweep hints it again."""
        wanted = self._room.without_held(portion.ids)
        try:
            if portion.unconfirmed:
                self._confirm(portion.unconfirmed)
            elif wanted:
                self._claim(wanted, portion.max_losses)
        except psycopg2.Error as error:
            log.warning("claim_failed", ids=len(wanted), error=str(error).strip().split("\n", 1)[0][:200])
            time.sleep(OUTAGE_PAUSE_SECONDS)
        except Exception:
            log.exception("claim_broken", ids=len(wanted))

    def _claim(self, wanted: Sequence[UUID], max_losses: int) -> None:
        runs = self._claimer.claim(self._worker_id(), wanted, self._take_in, max_losses)
        self._look_for_suspects(set(wanted) - {run.id for run in runs}, max_losses)

    def _confirm(self, ids: Sequence[UUID]) -> None:
        found: dict[UUID, int] = {}  # what cannot be asked about is let go
        try:
            found = self._claimer.suspects(ids)
        finally:
            with self._room.changed:
                self._suspects.confirm(found)

    def _look_for_suspects(self, left_out: Collection[UUID], max_losses: int) -> None:
        """Note those among what a claim left out that it left out because they are suspects."""
        if left_out:
            found = self._claimer.suspects(list(left_out))
            with self._room.changed:
                self._suspects.found({one: losses for one, losses in found.items() if losses > max_losses})

    def _take_in(self, runs: list[HeldRun]) -> None:
        """Hold what one commit claimed and hand it to the loop.

        It is done at once: until then the reconcile calls it stranded.
        """
        with self._room.changed:
            for run in runs:
                self._room.take(run.id, run.size_bytes)
                if run.losses and run.doom is None:
                    self._suspects.came(run.id, run.losses)
        self._deliver(runs)
