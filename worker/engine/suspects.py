"""Which runs may have killed the worker that had them, and when they are tried again.

A run that was lost with its worker is a suspect. It takes turns: during a turn nothing else is
claimed, so that a payload that kills its worker takes few others along, and none that is not
counted as lost in company. With one loss it shares the process with at most MAX_OTHERS others, with
two or more it has it to itself. A turn is followed by an ordinary time at least as long, so that
suspects never take more than half of a worker from everybody else; by a shorter one when nobody
else waits.

Invariants:

- Nothing is kept here that PostgreSQL does not know.
- What this forgets, the sweep hints again.

Used under the room's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from worker.engine.room import Room

MAX_OTHERS = 10

# A run that was lost so often has the process to itself.
ALONE_FROM = 2

# So long after a turn the sweep can offer what others wait for: without Redis nobody else does.
QUIET_SECONDS = 2.5

# So many suspects are remembered; the sweep hints the others again.
MAX_WAITING = 1_000

# The first turn lasts so long.
TURN_SECONDS = 10.0

# The longest turn lasts 85 minutes, longer than any attempt may.
MAX_DOUBLINGS = 9

# As max_losses: however often it was lost.
NO_BOUND = 1_000_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be claimed now: so many ordinary runs, or these suspects.

    max_losses: suspects that were lost more often are left out. unconfirmed: a turn may begin, once
    somebody has asked PostgreSQL whether these are suspects still.
    """

    ordinary: int = 0
    suspects: tuple[UUID, ...] = ()
    max_losses: int = 0
    unconfirmed: tuple[UUID, ...] = ()


class Suspects:
    """The suspects that this worker knows of and the turns that they take."""

    def __init__(self, room: Room, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._room = room
        self._monotonic = monotonic
        self._waiting: dict[UUID, int] = {}  # losses, in the order in which they were found
        self._in_room: dict[UUID, int] = {}
        self._confirmed = False  # since the last turn: another worker may have had them meanwhile
        self._turn_began: float | None = None
        self._ordinary_until = 0.0
        self._quiet_until = 0.0
        self._somebody_came = False
        self._fruitless_turns = 0

    @property
    def wait(self) -> bool:
        """Whether any are waiting for a turn."""
        return bool(self._waiting)

    @property
    def in_turn(self) -> bool:
        """Whether they have the worker now."""
        return self._turn_began is not None

    def found(self, losses: Mapping[UUID, int]) -> None:
        """An ordinary claim left these out: they wait for a turn."""
        for trigger_id, count in losses.items():
            if trigger_id in self._waiting or len(self._waiting) < MAX_WAITING:
                self._waiting[trigger_id] = count

    def confirm(self, losses: Mapping[UUID, int]) -> None:
        """PostgreSQL says that of all that wait only these may still be claimed."""
        self._waiting = {one: losses[one] for one in self._waiting if one in losses}
        self._confirmed = True

    def forget(self, ids: Iterable[UUID]) -> None:
        """A claim of these is being tried.

        What it does not get, another has, or it will be found again.
        """
        for trigger_id in ids:
            self._waiting.pop(trigger_id, None)

    def came(self, trigger_id: UUID, losses: int) -> None:
        """A suspect was claimed and is in the room."""
        self._in_room[trigger_id] = losses
        self._somebody_came = True

    def allowance(self, others_wait: bool) -> Allowance:
        """What may be claimed now. others_wait: whether ordinary runs are on offer."""
        now = self._monotonic()
        self._in_room = {one: losses for one, losses in self._in_room.items() if one in self._room}
        if self._turn_began is not None and self._is_over(now):
            self._end_turn(now)
        if self._turn_began is None and self._may_begin(now, others_wait):
            if not self._confirmed:
                return Allowance(unconfirmed=tuple(self._waiting))
            self._turn_began = now
            self._somebody_came = False
        return Allowance(self._room.free()) if self._turn_began is None else self._allowance_of_turn()

    def _may_begin(self, now: float, others_wait: bool) -> bool:
        nobody_minds = not others_wait and not len(self._room) and now >= self._quiet_until
        return bool(self._waiting) and (now >= self._ordinary_until or nobody_minds)

    def _is_over(self, now: float) -> bool:
        assert self._turn_began is not None
        nothing_left = not self._waiting and not self._in_room
        return nothing_left or now - self._turn_began >= self._longest_turn_seconds()

    def _longest_turn_seconds(self) -> float:
        """How long a turn lasts at most.

        It grows with the losses of whoever has the turn, and with turns in which the room did not
        empty in time. Without that, a run that kills its worker late in a long attempt would never
        be lost alone, and runs that hang for long would keep every suspect out.
        """
        worst = max(self._in_room.values(), default=0)
        doublings = max(worst - ALONE_FROM, self._fruitless_turns, 0)
        return TURN_SECONDS * 2.0 ** min(doublings, MAX_DOUBLINGS)

    def _end_turn(self, now: float) -> None:
        assert self._turn_began is not None
        self._ordinary_until = now + (now - self._turn_began)
        self._quiet_until = now + QUIET_SECONDS
        self._fruitless_turns = 0 if self._somebody_came else self._fruitless_turns + 1
        self._turn_began = None
        self._confirmed = False
        self._in_room = {}

    def _allowance_of_turn(self) -> Allowance:
        if any(losses >= ALONE_FROM for losses in self._in_room.values()):
            return Allowance()
        places = min(self._room.free(), MAX_OTHERS + 1 - len(self._room))
        if not self._waiting:
            return Allowance(ordinary=max(places, 0))
        first, losses = next(iter(self._waiting.items()))
        if losses >= ALONE_FROM:
            return Allowance() if len(self._room) else Allowance(suspects=(first,), max_losses=NO_BOUND)
        company = [one for one, count in self._waiting.items() if count < ALONE_FROM]
        return Allowance(suspects=tuple(company[: max(places, 0)]), max_losses=ALONE_FROM - 1)
