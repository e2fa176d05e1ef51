"""Claims: PENDING runs become RUNNING under this worker, in one transaction.

Invariants:

- A claim raises the run's fencing number.
- What is not PENDING or not due is left alone.
- Rows that another transaction holds are skipped, never waited for.
- The executions that start now are committed as RUNNING with their attempt number before any side
  effect, and each has a place then.
- A run for which there is no room is left as if it had not been looked at.

A row that cannot be claimed because of what it holds is isolated by halving and settles FAILED by
itself. Claims are made in a thread of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg2
import psycopg2.errors
import structlog

from shared import metrics
from shared.json_text import to_json
from shared.postgres.arrays import array
from shared.postgres.connections import USELESS, OwnedConnection
from shared.postgres.group_commit import is_content_error
from shared.postgres.sqlstates import is_lost
from shared.postgres.statements import PLANNED_ONCE, Transaction, transaction
from shared.runs import claim as moves
from shared.runs.settle import Settlement, settle
from worker.actions import starts_at_claim
from worker.engine.claimed import MAX_LOSSES_ALONE, assemble
from worker.engine.room import Room
from worker.engine.state import Execution, HeldRun, Status
from worker.engine.steps import Attempt, largest_step, next_move
from worker.engine.waiting import Wanted

CALL_SECONDS = 10.0

log = structlog.get_logger("claim")


class Claimable(NamedTuple):
    """What somebody could claim. losses: workers that died while they had it."""

    trigger_id: UUID
    user_id: UUID
    losses: int


@dataclass(slots=True)
class _Claimed:
    """What one transaction has come to. turned_away: what had no room, and what it would need."""

    runs: list[HeldRun] = field(default_factory=list)
    turned_away: dict[UUID, Wanted] = field(default_factory=dict)


class Claimer:
    """Claims for one worker what its room takes. Used by one thread."""

    def __init__(self, database_url: str, room: Room) -> None:
        self._room = room
        self._connection = OwnedConnection(
            database_url, "claim", call_seconds=CALL_SECONDS, autocommit=True, settings=PLANNED_ONCE
        )

    def close(self) -> None:
        self._connection.close()

    def claim(
        self,
        worker_id: UUID,
        ids: Sequence[UUID],
        deliver: Callable[[list[HeldRun]], None] = lambda _runs: None,
        max_losses: int = 0,
        not_of: Collection[UUID] = (),
        turned_away: Callable[[dict[UUID, Wanted]], None] = lambda _wanted: None,
    ) -> list[HeldRun]:
        """Claim what is PENDING and due among these ids and has room here.

        deliver: called after each commit with what that has claimed, which is in the room.
        turned_away: called with what had no room, by id what it would need.

        Left alone is what was lost with more than max_losses workers and what belongs to the
        tenants in not_of: claimable() names it. (What has killed its bound of workers is claimed by
        anybody, since nothing of it will run.)

        A fault of the installation (no PostgreSQL, a schema that does not fit, no partition) is
        raised: the runs stay PENDING. After a lost connection the claim may or may not have
        committed; the reconcile finds out. Any other error comes from one row: it is isolated, so
        that its neighbours run.
        """
        try:
            claimed = self._claim(worker_id, ids, max_losses, not_of)
        except Exception as error:
            if _concerns_all(error):
                raise
            if len(ids) == 1:
                self._give_up(ids[0], error)
                return []
        else:
            if claimed.runs:
                deliver(claimed.runs)
            if claimed.turned_away:
                turned_away(claimed.turned_away)
            return claimed.runs
        middle = len(ids) // 2
        return [
            run
            for half in (ids[:middle], ids[middle:])
            for run in self.claim(worker_id, half, deliver, max_losses, not_of, turned_away)
        ]

    def claimable(self, ids: Sequence[UUID]) -> list[Claimable]:
        """Those among these ids that somebody could claim now."""
        with transaction(self._connection) as statements:
            return [Claimable(*row) for row in moves.claimable(statements, ids)]

    def _give_up(self, trigger_id: UUID, error: Exception) -> None:
        """Settle a run whose rows cannot be read.

        A fault of ours leaves it PENDING, for a worker that is fixed.
        """
        log.error("run_unclaimable", trigger=str(trigger_id), exc_info=error)
        if is_content_error(error) or isinstance(error, LookupError):
            self._settle_unclaimable(trigger_id)

    def _claim(
        self, worker_id: UUID, ids: Sequence[UUID], max_losses: int, not_of: Collection[UUID]
    ) -> _Claimed:
        claimed = _Claimed()
        try:
            with transaction(self._connection) as statements:
                rows = moves.claim(statements, ids, worker_id, max_losses, MAX_LOSSES_ALONE, not_of)
                if not rows:
                    return claimed
                runs, now = assemble(statements, rows, worker_id)
                for run in runs:
                    self._let_in(run, claimed)
                if claimed.turned_away:
                    moves.turn_away(statements, list(claimed.turned_away))
                _start(statements, claimed.runs, now)
        except BaseException:
            for run in claimed.runs:  # whether it was committed or not, nobody here will carry it
                self._room.leave(run.id)
            raise
        metrics.runs_claimed.inc(len(claimed.runs))
        return claimed

    def _let_in(self, run: HeldRun, claimed: _Claimed) -> None:
        wanted = Wanted(run.trigger.user_id, largest_step(run.executions), run.size_bytes)
        run.places = self._room.take(run.id, *wanted)
        if run.places:
            claimed.runs.append(run)
        else:
            claimed.turned_away[run.id] = wanted

    def _settle_unclaimable(self, trigger_id: UUID) -> None:
        details = {
            "reason": "bad_config",
            "error": "A row of this trigger, its callback or its actions cannot be read. Set the callback and its actions again.",
        }
        with transaction(self._connection) as statements:
            if moves.lock_pending(statements, trigger_id):
                settle(statements, [Settlement(trigger_id, success=False, details=to_json(details))])


def _concerns_all(error: Exception) -> bool:
    """Whether an error is the installation's and not a row's: then no run may be failed for it."""
    if isinstance(error, psycopg2.errors.CheckViolation):  # no partition for today's executions
        return True
    if is_lost(error):
        return True
    return isinstance(error, (*USELESS, psycopg2.ProgrammingError, MemoryError))


def _start(statements: Transaction, runs: Sequence[HeldRun], now: datetime) -> None:
    """Commit what starts now of each run's current step, with the numbers of the attempts."""
    inserted: list[tuple[HeldRun, Execution]] = []
    restarted: list[tuple[HeldRun, Execution]] = []
    for run in runs:
        new = [execution for execution in run.executions if execution.status is Status.NEW]
        for execution in new:
            execution.status = Status.PENDING
        for execution in _startable(run, now):
            execution.status = Status.RUNNING
            execution.attempt += 1
            if execution not in new:
                restarted.append((run, execution))
        inserted += [(run, execution) for execution in new]
    if inserted:
        moves.insert_executions(statements, _insert_columns(inserted))
    if restarted:
        moves.start_again(
            statements,
            (
                array(e.id for _, e in restarted),
                array(run.id for run, _ in restarted),
                array(e.attempt for _, e in restarted),
                array(run.claim for run, _ in restarted),
            ),
        )


def _startable(run: HeldRun, now: datetime) -> list[Execution]:
    """What is attempted without a look at what it would do; the run decides about the rest."""
    if run.doom is not None:
        return []
    move = next_move(run.executions, now)
    if not isinstance(move, Attempt):
        return []
    return [
        e
        for e in move.executions[: run.places]
        if e.action is not None
        and e.action.enabled
        and run.callback is not None
        and starts_at_claim(e.action, run.scope)
    ]


def _insert_columns(pairs: Sequence[tuple[HeldRun, Execution]]) -> tuple[str, ...]:
    return (
        array(e.id for _, e in pairs),
        array(run.id for run, _ in pairs),
        array(e.action_id for _, e in pairs),
        array(run.trigger.callback_id for run, _ in pairs),
        array(run.trigger.user_id for run, _ in pairs),
        array(e.type for _, e in pairs),
        array(e.step for _, e in pairs),
        array(e.status.value for _, e in pairs),
        array(e.attempt for _, e in pairs),
        array(run.claim for run, _ in pairs),
    )
