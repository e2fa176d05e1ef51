"""Removes what belongs to a deleted callback, action or user, in small portions.

Invariants:

- A deletion first only marks (`deleted_at`).
- Rows are removed once nobody can add to them any more, children before parents.
- Runs go before everything, each with its trigger in one transaction, and log rows go last. So at
  each commit a trigger that exists has a run or a log row.

No portion holds locks for long: others' deliveries do not notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from shared.postgres.connections import OwnedConnection
from shared.runs import purge
from worker.maintenance.duty import is_mine

PORTION_ROWS = 5_000

# What is left then waits for the next pass: the other duties wait for this one.
PASS_SECONDS = 0.5

# Ingress snapshots live 1 s and a commit takes at most 3 s: after this nobody adds rows.
QUIET_SECONDS = 10

_ACTION = (
    "SELECT id FROM actions WHERE deleted_at < now() - make_interval(secs => %s) ORDER BY deleted_at LIMIT 1"
)
_CALLBACK = "SELECT id FROM callbacks WHERE deleted_at < now() - make_interval(secs => %s) ORDER BY deleted_at LIMIT 1"
_USER = """
SELECT u.id FROM users u WHERE u.deleted_at < now() - make_interval(secs => %s)
  AND NOT EXISTS (SELECT 1 FROM callbacks c WHERE c.user_id = u.id) ORDER BY u.deleted_at LIMIT 1
"""
_MARK_OF_DELETED_USERS = """
UPDATE callbacks c SET deleted_at = now() FROM users u
WHERE u.id = c.user_id AND u.deleted_at IS NOT NULL AND c.deleted_at IS NULL
"""
_KEYS = """
DELETE FROM idempotency_keys k USING (
  SELECT callback_id, key FROM idempotency_keys WHERE callback_id = %s ORDER BY key LIMIT %s) old
WHERE k.callback_id = old.callback_id AND k.key = old.key
"""

# Removes some of what belongs to an id, at most so many rows; returns how many.
Step = Callable[[Any, str, int], int]


class Purge:
    """Removes marked rows, a bounded number in each pass."""

    name = "purge"

    def __init__(self, interval_seconds: float = 5.0, quiet_seconds: float = QUIET_SECONDS) -> None:
        self.interval_seconds = interval_seconds
        self._quiet_seconds = quiet_seconds

    def do(self, connection: OwnedConnection) -> int:
        removed = 0
        until = time.monotonic() + PASS_SECONDS
        while time.monotonic() < until:
            with connection.transaction() as cursor:
                if not is_mine(cursor, self.name):
                    break
                portion = self._remove_some(cursor)
            if portion == 0:
                break
            removed += portion
        return removed

    def _remove_some(self, cursor: Any) -> int:
        """Remove one portion of whatever is marked; 0 when nothing is."""
        cursor.execute(_MARK_OF_DELETED_USERS)
        for find, remove in ((_CALLBACK, _remove_callback), (_ACTION, _remove_action), (_USER, _remove_user)):
            cursor.execute(find, (self._quiet_seconds,))
            found = cursor.fetchone()
            if found is not None:
                return remove(cursor, found[0])
        return 0


def _remove_callback(cursor: Any, callback_id: str) -> int:
    cursor.execute("SELECT id FROM actions WHERE callback_id = %s", (callback_id,))
    actions = [row[0] for row in cursor.fetchall()]
    steps: list[tuple[Step, str]] = [(purge.runs_of_callback, callback_id), (_remove_keys, callback_id)]
    steps += [(purge.executions_of_action, action_id) for action_id in actions]
    steps += [(purge.triggers_of_callback, callback_id), (purge.logs_of_callback, callback_id)]
    return _first_that_removes(cursor, steps) or _remove_row(cursor, "callbacks", callback_id)


def _remove_action(cursor: Any, action_id: str) -> int:
    return _first_that_removes(cursor, [(purge.executions_of_action, action_id)]) or _remove_row(
        cursor, "actions", action_id
    )


def _remove_user(cursor: Any, user_id: str) -> int:
    return _remove_row(cursor, "users", user_id)


def _first_that_removes(cursor: Any, steps: Sequence[tuple[Step, str]]) -> int:
    return next((removed for step, key in steps if (removed := step(cursor, key, PORTION_ROWS))), 0)


def _remove_keys(cursor: Any, callback_id: str, at_most: int) -> int:
    cursor.execute(_KEYS, (callback_id, at_most))
    return int(cursor.rowcount)


def _remove_row(cursor: Any, table: str, key: str) -> int:
    cursor.execute(f"DELETE FROM {table} WHERE id = %s", (key,))  # noqa: S608 - the table is one of our three
    return int(cursor.rowcount)
