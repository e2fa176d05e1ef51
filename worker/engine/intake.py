"""Takes offers of trigger ids and claims what fits, in a thread of its own.

An offer comes from a hint task or from the sweep. It waits here while there is no room for anybody,
holding no connection; that wait is the back-pressure on Celery. When its time is over it is
forgotten: the sweep hints it again. What has no room although others would have it, since its
tenant holds its part, waits apart (waiting.py) and ends its offer. What was lost with a worker is
claimed by the suspects' process alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg2
import structlog

from shared.threads import OwnedThread
from worker.engine.claim import Claimer
from worker.engine.room import Room
from worker.engine.state import HeldRun
from worker.engine.waiting import MAX_OF_TENANT, Waiting, Wanted

MAX_CLAIM_IDS = 200
IDLE_WAIT_SECONDS = 0.5
OUTAGE_PAUSE_SECONDS = 0.5
STOP_SECONDS = 3.0

# Between two claims of what waits, so that under load places gather: a transaction for each that
# becomes free would cost more than the place is worth. An eighth of what one tenant may have is
# enough for the next one.
GATHER_SECONDS = 0.025
GATHER_STEP_SECONDS = 0.005
ENOUGH = 8

Suspected = Callable[[Mapping[UUID, int]], None]

log = structlog.get_logger("intake")


class _Offer:
    __slots__ = ("done", "ids")

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids = deque(ids)
        self.done = threading.Event()


@dataclass(frozen=True, slots=True)
class _Portion:
    """What one claim asks for.

    ended: the offers of which nothing is left then. not_of: tenants of whom nothing is to be
    claimed, since something of theirs waits already or would have no room.
    """

    ids: Sequence[UUID] = ()
    ended: Sequence[_Offer] = ()
    not_of: Collection[UUID] = ()


class Intake:
    """Claims for the engine.

    may_claim: whether the lease is held. deliver: hands claimed runs to the loop. max_losses: what
    was lost with more workers is not claimed here. suspected: told of that, by id how often it was
    lost; it must not wait.
    """

    def __init__(
        self,
        claimer: Claimer,
        room: Room,
        worker_id: Callable[[], UUID],
        may_claim: Callable[[], bool],
        deliver: Callable[[list[HeldRun]], None],
        *,
        max_losses: int = 0,
        suspected: Suspected = lambda _losses: None,
    ) -> None:
        self._claimer = claimer
        self._room = room
        self._worker_id = worker_id
        self._may_claim = may_claim
        self._deliver = deliver
        self._max_losses = max_losses
        self._suspected = suspected
        self._offers: deque[_Offer] = deque()
        self._waiting = Waiting()
        self._waiting_had_a_turn = False
        self._gathers_until = 0.0
        # Whether all that was last offered is of tenants that may have no more: as long as that
        # goes on, one look sorts it out, and a claim of nothing is spared.
        self._crowd_comes = False
        self._claiming = False
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
            for offer in self._offers:
                offer.done.set()
            self._offers.clear()
            self._room.changed.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on offer, waits or is being claimed, and nothing is in the room."""
        with self._room.changed:
            return not (self._offers or len(self._waiting) or self._claiming or len(self._room))

    @property
    def appetite(self) -> int:
        """How many more runs would be kept here until there is room, whoever's they are."""
        with self._room.changed:
            return 0 if self._stopping else max(MAX_OF_TENANT - len(self._waiting), 0)

    def crowded(self) -> list[UUID]:
        """The tenants of whom so much waits here that nothing more is to be offered."""
        with self._room.changed:
            return self._waiting.full_for()

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

    def keep(self, users: Mapping[UUID, UUID]) -> bool:
        """Let runs wait here that are known to be due, each with its tenant, until there is room.

        They go behind what waits already, as far as it is not forgotten. False after the end.
        """
        with self._room.changed:
            if self._stopping:
                return False
            for trigger_id, user_id in users.items():
                if trigger_id not in self._room:
                    self._waiting.add(trigger_id, user_id)
            self._room.changed.notify_all()
        return True

    def _run(self) -> None:
        while True:
            portion = self._take()
            if not self._stopping:
                self._do(portion)
            with self._room.changed:
                self._claiming = False
            for offer in portion.ended:
                offer.done.set()
            if self._stopping:
                self._claimer.close()
                return

    def _take(self) -> _Portion:
        """Wait until something that is offered, or waits, may be claimed."""
        with self._room.changed:
            while not self._stopping:
                portion = self._next() if self._may_claim() else None
                if portion is not None:
                    self._claiming = True
                    return portion
                if (left := self._gathers_until - time.monotonic()) > 0 and len(self._waiting):
                    # for an offer; what leaves meanwhile gathers
                    self._room.changed.wait(min(left, GATHER_STEP_SECONDS))
                elif self._offers or len(self._waiting):
                    self._room.wait_for_leave(IDLE_WAIT_SECONDS)
                else:
                    self._room.changed.wait()  # for an offer, or the end
        return _Portion()

    def _next(self) -> _Portion | None:
        """What waits and fits now, and what is newly offered, in turns."""
        self._waiting_had_a_turn = not self._waiting_had_a_turn
        for of_waiting in (self._waiting_had_a_turn, not self._waiting_had_a_turn):
            if of_waiting:
                if time.monotonic() < self._gathers_until and not self._room.has_in_common(ENOUGH):
                    continue
                if ids := self._waiting.take(self._room, MAX_CLAIM_IDS):
                    self._gathers_until = time.monotonic() + GATHER_SECONDS
                    return _Portion(ids)
            elif self._offers and (room := min(self._room.free(), MAX_CLAIM_IDS)):
                return self._take_offered(room)
        return None

    def _take_offered(self, room: int) -> _Portion:
        ids: list[UUID] = []
        ended: list[_Offer] = []
        while self._offers and len(ids) < room:
            offer = self._offers[0]
            while offer.ids and len(ids) < room:
                ids.append(offer.ids.popleft())
            if not offer.ids:
                ended.append(self._offers.popleft())
        return _Portion(ids, ended, {*self._waiting.tenants(), *self._room.full_for()})

    def _do(self, portion: _Portion) -> None:
        """Claim. What fails is logged and forgotten: the sweep hints it again."""
        wanted = self._room.without_held(portion.ids)
        if not wanted:
            return
        try:
            self._claim(wanted, portion.not_of)
        except psycopg2.Error as error:
            log.warning("claim_failed", ids=len(wanted), error=str(error).strip().split("\n", 1)[0][:200])
            time.sleep(OUTAGE_PAUSE_SECONDS)
        except Exception:
            log.exception("claim_broken", ids=len(wanted))

    def _claim(self, wanted: Collection[UUID], not_of: Collection[UUID]) -> None:
        if not_of and self._crowd_comes:
            wanted = self._sort_out(wanted, not_of)
        turned_away: dict[UUID, Wanted] = {}
        runs: list[HeldRun] = []
        if wanted:
            runs = self._claimer.claim(
                self._worker_id(), list(wanted), self._deliver, self._max_losses, not_of, turned_away.update
            )
        self._crowd_comes = bool(not_of) and not runs
        if turned_away:
            with self._room.changed:
                self._waiting.turned_away(turned_away)
        left_out = set(wanted) - {run.id for run in runs} - turned_away.keys()
        if left_out:
            self._sort_out(left_out, not_of)

    def _sort_out(self, ids: Collection[UUID], not_of: Collection[UUID]) -> list[UUID]:
        """Let what belongs to tenants in not_of wait for its turn, and tell of suspects.

        Returns what else could be claimed. The rest has been claimed by another, or is not due.
        """
        found = self._claimer.claimable(list(ids))
        suspects = {one.trigger_id: one.losses for one in found if one.losses > self._max_losses}
        if suspects:
            self._suspected(suspects)
        others: list[UUID] = []
        with self._room.changed:
            for one in found:
                if one.trigger_id in suspects:
                    continue
                if one.user_id in not_of:
                    self._waiting.add(one.trigger_id, one.user_id)
                else:
                    others.append(one.trigger_id)
        return others
