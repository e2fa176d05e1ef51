"""Switches off actions whose receiver has answered 410: it asks never to be called again.

Invariants:

- An action that was changed since the attempt began, itself or its callback, stays on: that is not
  what the receiver spoke of.
- Each switching off has one log row.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.ids import new_id
from shared.postgres.arrays import array
from shared.postgres.statements import Transaction

SWITCHED_OFF_EVENT = "action.disabled"

_SWITCH_OFF = """
WITH gone AS (
  SELECT DISTINCT ON (a.id) a.id, x.trigger_id
  FROM unnest(%(actions)s::uuid[], %(triggers)s::uuid[]) AS g(action_id, trigger_id)
  JOIN action_executions x ON x.trigger_id = g.trigger_id AND x.action_id = g.action_id
    AND x.trigger_id = ANY(%(triggers)s::uuid[])
  JOIN actions a ON a.id = g.action_id AND a.updated_at <= x.started_at
  JOIN callbacks c ON c.id = a.callback_id AND c.updated_at <= x.started_at
  ORDER BY a.id),
off AS (
  UPDATE actions a SET enabled = false, updated_at = now() FROM gone
  WHERE a.id = gone.id AND a.enabled AND a.deleted_at IS NULL RETURNING a.id, a.callback_id, gone.trigger_id)
INSERT INTO logs (id, callback_id, user_id, event, details, status_code, success)
SELECT l.id, off.callback_id, c.user_id, %(event)s, jsonb_build_object('reason', 'gone', 'actionId', off.id,
  'triggerId', off.trigger_id), 410, false
FROM off JOIN unnest(%(each)s::uuid[], %(ids)s::uuid[]) AS l(action_id, id) ON l.action_id = off.id
JOIN callbacks c ON c.id = off.callback_id
"""


def switch_off(statements: Transaction, gone: Sequence[tuple[UUID, UUID]]) -> None:
    """Switch these actions off.

    gone: action ids, each with the trigger whose attempt was answered so.
    """
    if not gone:
        return
    ids = {action_id: new_id() for action_id, _ in gone}  # of the log row that each may get
    statements.execute(
        _SWITCH_OFF,
        {
            "actions": array(action_id for action_id, _ in sorted(gone)),
            "triggers": array(trigger_id for _, trigger_id in sorted(gone)),
            "each": array(ids),
            "ids": array(ids.values()),
            "event": SWITCHED_OFF_EVENT,
        },
    )
