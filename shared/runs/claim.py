"""A worker takes runs: PENDING and due ones become RUNNING under it, and their executions begin.

Invariants:

- A claim raises the run's fencing number.
- Rows that another transaction holds are skipped, in the order of the ids.
- An execution is committed RUNNING, with its number, before its side effect.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array
from shared.postgres.statements import Statement, Transaction

_CLAIM = Statement(
    "claim",
    "uuid[], uuid, int, int, uuid[]",  # ids, worker, how often lost at most, how often lost alone is enough, not of
    """
WITH k AS (
  SELECT trigger_id FROM runs
  WHERE trigger_id = ANY($1) AND (status = 'PENDING') IS TRUE AND (due_at <= now()) IS TRUE
    AND (losses <= $3 OR losses_alone >= $4) AND user_id <> ALL($5)
  ORDER BY trigger_id FOR UPDATE SKIP LOCKED),
c AS (
  UPDATE runs r SET status = 'RUNNING', worker_id = $2, claim = r.claim + 1
  FROM k WHERE r.trigger_id = k.trigger_id AND r.trigger_id = ANY($1)
  RETURNING r.trigger_id, r.callback_id, r.claim, r.losses, r.losses_alone, r.awaited)
SELECT c.trigger_id, c.callback_id, c.claim, c.losses, c.losses_alone, c.awaited, now(), t.id IS NOT NULL,
  t.user_id, t.method, t.path, t.query, t.headers::text, t.content_type, t.body, t.received_at,
  c.claim > 1 OR t.replay_of IS NOT NULL
FROM c LEFT JOIN triggers t ON t.id = c.trigger_id AND t.id = ANY($1) AND t.id BETWEEN $first AND $last
ORDER BY c.trigger_id
""",
    keys=1,
)
_CLAIMABLE = Statement(
    "claimable",
    "uuid[]",
    """
SELECT trigger_id, user_id, losses FROM runs
WHERE trigger_id = ANY($1) AND status = 'PENDING' AND due_at <= now()
""",
)
_TURN_AWAY = """
UPDATE runs SET status = 'PENDING', worker_id = NULL, claim = claim - 1 WHERE trigger_id = ANY(%s::uuid[])
"""
_INSERT_EXECUTIONS = Statement(
    "start_new",
    "uuid[], uuid[], uuid[], uuid[], uuid[], text[], int[], text[], int[], int[]",
    """
INSERT INTO action_executions
  (id, trigger_id, action_id, callback_id, user_id, type, step, status, attempt, claim, started_at)
SELECT e.id, e.trigger_id, e.action_id, e.callback_id, e.user_id, e.type::action_type, e.step,
  e.status::execution_status, e.attempt, e.claim, CASE WHEN e.attempt > 0 THEN now() END
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
  AS e(id, trigger_id, action_id, callback_id, user_id, type, step, status, attempt, claim)
""",
)
_START_AGAIN = Statement(
    "start_again",
    "uuid[], uuid[], int[], int[]",
    """
UPDATE $partition x SET status = 'RUNNING', attempt = e.attempt, claim = e.claim, started_at = now(),
  next_attempt_at = NULL, updated_at = now()
FROM unnest($1, $2, $3, $4) AS e(id, trigger_id, attempt, claim)
WHERE x.trigger_id BETWEEN e.trigger_id AND e.trigger_id AND x.id = e.id AND x.status = 'PENDING'
""",
    keys=2,
    table="action_executions",
)
_LOCK_PENDING = "SELECT 1 FROM runs WHERE trigger_id = %s AND status = 'PENDING' FOR UPDATE"


def claim(
    statements: Transaction,
    ids: Sequence[UUID],
    worker_id: UUID,
    max_losses: int,
    enough_losses_alone: int,
    not_of: Collection[UUID],
) -> list[tuple[Any, ...]]:
    """Take what is PENDING and due among these; its run and its trigger, a row each.

    max_losses: what was lost with more workers is left alone, unless it was lost alone often
    enough. not_of: tenants whose runs are left alone.
    """
    return statements.ask(
        _CLAIM, array(sorted(ids)), str(worker_id), max_losses, enough_losses_alone, array(not_of)
    )


def turn_away(statements: Transaction, ids: Sequence[UUID]) -> None:
    """Undo the claim of these, which this transaction has made: nobody has seen its number."""
    statements.execute(_TURN_AWAY, (array(ids),))


def claimable(statements: Transaction, ids: Sequence[UUID]) -> list[tuple[Any, ...]]:
    """Those among these that could be claimed: trigger, tenant, how often lost with a worker."""
    return statements.ask(_CLAIMABLE, array(sorted(ids)))


def lock_pending(statements: Transaction, trigger_id: UUID) -> bool:
    """Hold a run that is PENDING; False when it is not any more."""
    statements.execute(_LOCK_PENDING, (str(trigger_id),))
    return statements.fetchone() is not None


def insert_executions(statements: Transaction, columns: Sequence[str]) -> None:
    """Insert the executions of a first claim.

    columns: arrays of id, trigger, action, callback, user, type, step, status, attempt and claim.
    """
    statements.tell(_INSERT_EXECUTIONS, *columns)


def start_again(statements: Transaction, columns: Sequence[str]) -> None:
    """Let PENDING executions be RUNNING. columns: arrays of id, trigger, attempt and claim."""
    statements.tell(_START_AGAIN, *columns)
