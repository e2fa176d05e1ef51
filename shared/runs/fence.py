"""The fence: what a worker writes of a run counts only while the run is its own.

Invariants:

- A transaction that writes executions has locked their runs first, in the order of the ids, and
  goes on with those that come back RUNNING under its worker and claim.
- A terminal execution is never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array
from shared.postgres.statements import Statement, Transaction

_LOCK = Statement(
    "journal_lock",
    "uuid[]",
    "SELECT trigger_id, worker_id, claim, status FROM runs WHERE trigger_id = ANY($1) ORDER BY trigger_id FOR UPDATE",
)
_WRITE = Statement(
    "journal_update",
    "uuid[], uuid[], text[], int[], int[], text[], text[], int[], float8[], text[], bool[]",
    """
UPDATE $partition x SET
  status = e.status::execution_status, attempt = e.attempt, claim = e.claim,
  response = e.response::jsonb, error = e.error, duration_ms = e.duration_ms,
  next_attempt_at = now() + make_interval(secs => e.delay_seconds),
  started_at = CASE WHEN e.starts THEN now() ELSE x.started_at END,
  finished_at = CASE WHEN e.status IN ('SUCCESS', 'FAILED') THEN now() END,
  history = CASE WHEN e.history IS NULL OR x.history @> jsonb_build_array(jsonb_build_object('attempt', e.attempt))
    THEN x.history  -- nothing to add, or added by a first writing whose answer was lost
    ELSE x.history || (e.history::jsonb || jsonb_build_object('startedAt', x.started_at)) END,
  updated_at = now()
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
  AS e(id, trigger_id, status, attempt, claim, response, error, duration_ms, delay_seconds, history, starts)
WHERE x.trigger_id BETWEEN e.trigger_id AND e.trigger_id AND x.id = e.id AND x.status NOT IN ('SUCCESS', 'FAILED')
""",
    keys=2,
    table="action_executions",
)


_ENDED = """
SELECT trigger_id, action_id, status = 'SUCCESS', split_part(error, ': ', 1), substr(error, strpos(error, ': ') + 2)
FROM action_executions WHERE trigger_id = ANY(%s::uuid[]) AND status IN ('SUCCESS', 'FAILED')
"""


def lock(statements: Transaction, ids: Iterable[UUID]) -> dict[UUID, tuple[Any, ...]]:
    """Hold these runs; worker id, claim and status of each, as they are now.

    FOR UPDATE reads the newest version.
    """
    rows = statements.ask(_LOCK, array(sorted(ids)))
    return {row[0]: row[1:] for row in rows}


def write(statements: Transaction, columns: Sequence[str]) -> None:
    """Write what executions have come to, of runs that are held.

    columns: arrays of id, trigger, status, attempt, claim, response, error, duration in ms, delay
    of the next attempt in seconds, entry of the history, and whether an attempt starts.
    """
    statements.tell(_WRITE, *columns)


def ended(
    statements: Transaction, ids: Iterable[UUID]
) -> list[tuple[UUID, UUID, bool, str | None, str | None]]:
    """Executions of these runs that are terminal: run, action, whether as SUCCESS, code, text."""
    statements.execute(_ENDED, (array(sorted(ids)),))
    found: list[tuple[UUID, UUID, bool, str | None, str | None]] = statements.fetchall()
    return found
