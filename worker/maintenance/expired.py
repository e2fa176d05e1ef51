"""Removes rows whose time is over: idempotency keys, kept answers, sessions and retired tokens.

All are checked against the clock wherever they are used, so this only frees room. It does so in
small portions, and never in the way of a key that is being taken at the moment.
"""

from __future__ import annotations

import time

from shared.postgres.connections import OwnedConnection
from worker.maintenance.duty import is_mine

PORTION_ROWS = 5_000

# What is left then waits for the next pass: the other duties wait for this one.
PASS_SECONDS = 0.5

_REMOVE = (
    """
DELETE FROM idempotency_keys k USING (
  SELECT callback_id, key FROM idempotency_keys WHERE expires_at <= now() ORDER BY expires_at LIMIT %s
  FOR UPDATE SKIP LOCKED) old
WHERE k.callback_id = old.callback_id AND k.key = old.key
""",
    """
DELETE FROM kept_answers k USING (
  SELECT user_id, method, path, key FROM kept_answers WHERE expires_at <= now() ORDER BY expires_at LIMIT %s
  FOR UPDATE SKIP LOCKED) old
WHERE k.user_id = old.user_id AND k.method = old.method AND k.path = old.path AND k.key = old.key
""",
    """
DELETE FROM sessions s USING (
  SELECT id FROM sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED) old
WHERE s.id = old.id
""",
    """
DELETE FROM retired_tokens t USING (
  SELECT token FROM retired_tokens WHERE expires_at <= now() ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED) old
WHERE t.token = old.token
""",
)


class Expired:
    """Looks once a minute for what has expired."""

    name = "expired"

    def __init__(self, interval_seconds: float = 60.0) -> None:
        self.interval_seconds = interval_seconds

    def do(self, connection: OwnedConnection) -> int:
        return sum(self._remove(connection, statement) for statement in _REMOVE)

    def _remove(self, connection: OwnedConnection, statement: str) -> int:
        removed = 0
        until = time.monotonic() + PASS_SECONDS
        while time.monotonic() < until:
            with connection.transaction() as cursor:
                if not is_mine(cursor, self.name):
                    break
                cursor.execute(statement, (PORTION_ROWS,))
                removed += cursor.rowcount
                if cursor.rowcount < PORTION_ROWS:
                    break
        return removed
