"""What a run does next, decided from its executions alone. Pure.

First run, retry, crash recovery and replay are the same question put to the same rows, so they are
the same code. A step is a maximal run of consecutive parallel actions, or one ordered action; it
starts when the one before it is settled: every execution SUCCESS, or FAILED with on_failure
CONTINUE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from worker.engine.state import Execution, Status


@dataclass(frozen=True, slots=True)
class Attempt:
    """Attempt these executions of one step together.

    of_step: all of the step that have not ended, those among them whose retry comes later.
    """

    executions: tuple[Execution, ...]
    of_step: tuple[Execution, ...]


@dataclass(frozen=True, slots=True)
class Park:
    """Nothing is due: give the run back until then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Stop:
    """A failure stops the run: these executions never start."""

    executions: tuple[Execution, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    """Everything has ended."""

    success: bool


Move = Attempt | Park | Stop | Settle


def largest_step(executions: Sequence[Execution]) -> int:
    """The most executions that any step has open: so many may be attempted at one moment."""
    if len(executions) == 1:  # as with most runs
        return 1
    return max(Counter(e.step for e in executions if not e.ended).values(), default=0)


def is_due(execution: Execution, now: datetime) -> bool:
    """Whether one that has not ended may be attempted now."""
    return execution.next_attempt_at is None or execution.next_attempt_at <= now


def next_move(executions: Sequence[Execution], now: datetime) -> Move:
    """Say what a run with these executions does next. now: PostgreSQL's time."""
    ordered = sorted(executions, key=lambda execution: execution.step)
    for step, members in groupby(ordered, key=lambda execution: execution.step):
        group = list(members)
        open_ones = tuple(execution for execution in group if not execution.ended)
        due = tuple(execution for execution in open_ones if is_due(execution, now))
        if due:
            return Attempt(due, open_ones)
        if open_ones:
            return Park(min(e.next_attempt_at for e in open_ones if e.next_attempt_at is not None))
        if any(e.status is Status.FAILED and e.stops_on_failure for e in group):
            rest = tuple(e for e in ordered if e.step > step and not e.ended)
            if rest:
                return Stop(rest)
    return Settle(success=all(execution.status is Status.SUCCESS for execution in executions))
