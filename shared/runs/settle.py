"""Settles runs: the run's row goes, the log row comes, in one statement.

Invariant: a trigger has either a run or a log row. Whoever settles holds the run's row locked, so
that the end that is written is the only one; the log row bears the trigger's own id, so a second
one could not be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.json_text import to_json
from shared.postgres.arrays import array
from shared.postgres.statements import Statement, by_number

SETTLED_EVENT = "trigger.settled"

SETTLE = Statement(
    "settle",
    "uuid[], text, text[], int[], bool[]",
    """
WITH gone AS (
  DELETE FROM runs WHERE trigger_id = ANY($1) RETURNING trigger_id, callback_id, user_id, received_at)
INSERT INTO logs (id, callback_id, user_id, event, details, response_time, status_code, success)
SELECT gone.trigger_id, gone.callback_id, gone.user_id, $2, l.details::jsonb,
  least(extract(epoch FROM clock_timestamp() - gone.received_at) * 1000, 2147483647)::int, l.status_code, l.success
FROM gone JOIN unnest($1, $3, $4, $5) AS l(id, details, status_code, success) ON l.id = gone.trigger_id
""",
)
_LOCK = "SELECT 1 FROM runs WHERE trigger_id = %s AND user_id = %s FOR UPDATE"
_CANCEL_EXECUTIONS = """
UPDATE action_executions SET status = 'FAILED', next_attempt_at = NULL, finished_at = now(), updated_at = now(),
  error = 'cancelled: ' || CASE WHEN status = 'RUNNING' THEN 'Cancelled during an attempt; the receiver may have got it.'
    WHEN attempt > 0 THEN 'Cancelled before its next attempt.' ELSE 'Cancelled before it ran.' END
WHERE trigger_id = %s AND status IN ('PENDING', 'RUNNING')
"""
_STEPS = """
SELECT coalesce(jsonb_agg(jsonb_build_object('actionId', action_id, 'type', type, 'step', step, 'status', status,
  'attempt', attempt, 'code', split_part(error, ':', 1)) ORDER BY step, id), '[]')
FROM action_executions WHERE trigger_id = %s
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a run ends. details: what its log row keeps, `reason` and `steps`, as JSON text."""

    trigger_id: UUID
    success: bool
    details: str
    status_code: int | None = None


def settle(cursor: Any, ends: Sequence[Settlement]) -> None:
    """Settle runs whose rows the caller has locked."""
    cursor.execute(SETTLE.plain, by_number(columns(ends)))


def columns(ends: Sequence[Settlement]) -> tuple[Any, ...]:
    """The parameters of SETTLE."""
    return (
        array(end.trigger_id for end in ends),
        SETTLED_EVENT,
        array(end.details for end in ends),
        array(end.status_code for end in ends),
        array(end.success for end in ends),
    )


def cancel(cursor: Any, user_id: UUID, trigger_id: UUID) -> bool:
    """Settle a user's run as FAILED `cancelled`; False when it has none.

    A worker's late result finds no run.
    """
    cursor.execute(_LOCK, (str(trigger_id), str(user_id)))
    if cursor.fetchone() is None:
        return False
    cursor.execute(_CANCEL_EXECUTIONS, (str(trigger_id),))
    cursor.execute(_STEPS, (str(trigger_id),))
    details = {"reason": "cancelled", "steps": cursor.fetchone()[0]}
    settle(cursor, [Settlement(trigger_id, success=False, details=to_json(details))])
    return True
