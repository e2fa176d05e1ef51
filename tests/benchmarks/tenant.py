"""A small tenant of a Pointsman, made of rows alone: what some weeks with little to do leave
behind.

Two callbacks with three actions each, triggers that have all settled, every tenth of them FAILED,
items that they stored, a few replay jobs, and an API key that may read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.crypto import token_hash
from tests.history import fill
from tests.rows import Rows

# Which its history covers, today among them.
DAYS = 8
TRIGGERS = 300
CALLBACKS = 2
STORED_ITEMS = 100
REPLAY_JOBS = 5
KEY = "order-7"

# what the other actions of a callback did; an id ends with four bytes of its own, as shared.ids has
# it
GO_ON = """
INSERT INTO action_executions (trigger_id, id, action_id, callback_id, user_id, type, step, status, attempt, claim, response,
  duration_ms, started_at, finished_at)
SELECT trigger_id, (left(e.id::text, 28) || left(md5(e.id::text || a.id::text), 8))::uuid, a.id, a.callback_id, a.user_id, a.type,
  a."order", status, attempt, claim, response, duration_ms, started_at, finished_at
FROM action_executions e JOIN actions a ON a.callback_id = e.callback_id AND a.id <> e.action_id
WHERE e.user_id = %(user)s
"""
# every tenth trigger has failed: its executions, and what its log says
FAIL = """
WITH failed AS (
  SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM triggers WHERE user_id = %(user)s) numbered
  WHERE number %% 10 = 0),
l AS (UPDATE logs SET success = false, status_code = 503 FROM failed WHERE logs.id = failed.id)
UPDATE action_executions SET status = 'FAILED', error = 'the receiver answered 503' FROM failed
WHERE trigger_id = failed.id
"""
STORE = """
INSERT INTO stored_items (id, user_id, callback_id, action_id, trigger_id, key, content, content_type)
SELECT uuidv7(received_at - clock_timestamp()), user_id, callback_id, %(action)s, id,
  CASE WHEN random() < 0.2 THEN %(key)s ELSE left(md5(id::text), 8) END, body, content_type
FROM triggers WHERE callback_id = %(callback)s ORDER BY id LIMIT %(count)s
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """token: its API key. names: what stands in the braces of a path."""

    token: str
    names: Mapping[str, str]


def settle_in(cursor: Any) -> Tenant:
    """Make the tenant and its history; the partitions of DAYS are there."""
    rows = Rows(cursor)
    user = rows.insert("users")["id"]
    token = f"pm_live_{secrets.token_urlsafe(32)}"
    rows.insert("api_keys", user_id=user, key=token_hash(token), prefix=token[:12], permissions=["read"])
    callbacks = [_make_callback(rows, user) for _ in range(CALLBACKS)]
    for callback, deliver, _store in callbacks:
        for day in range(DAYS):
            fill(cursor, callback, user, deliver, TRIGGERS // CALLBACKS // DAYS + 1, days_ago=day)
    for statement in (GO_ON, FAIL):
        cursor.execute(statement, {"user": user})
    callback, deliver, store = callbacks[0]
    cursor.execute(STORE, {"callback": callback, "action": store, "key": KEY, "count": STORED_ITEMS})
    for _ in range(REPLAY_JOBS):
        rows.insert("replay_jobs", user_id=user, callback_id=callback, state="DONE")
    moment = (datetime.now(UTC) - timedelta(days=DAYS // 2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Tenant(token, {"callback": callback, "action": deliver, "key": KEY, "moment": moment})


def _make_callback(rows: Rows, user: str) -> tuple[str, str, str]:
    """A callback that delivers, stores, and delivers once more; its id and those of its first two
    actions.
    """
    callback = rows.insert("callbacks", user_id=user, callback_url="http://127.0.0.1/")["id"]
    kinds = ("HTTP_POST", "STORE", "HTTP_POST")
    first, second, _ = (
        rows.insert("actions", user_id=user, callback_id=callback, type=kind, order=order)["id"]
        for order, kind in enumerate(kinds)
    )
    return callback, first, second
