"""Settled triggers of the past, as many as a test or a benchmark wants, made by PostgreSQL itself.

Each is what one delivered trigger leaves behind: a row of `triggers` with a small body, one
execution with the receiver's answer, one log row. They have no runs.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

_MAKE = """
WITH made AS MATERIALIZED (
  SELECT uuidv7(at - clock_timestamp()) AS id, at FROM (
    SELECT %(from)s::timestamptz + random() * (%(to)s::timestamptz - %(from)s::timestamptz) AS at
    FROM generate_series(1, %(count)s)) moments
  ORDER BY at),
t AS (
  INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip, received_at)
  SELECT id, %(callback)s, %(user)s, 'POST', '/t/history', '', '[["content-type", "application/json"], ["host", "localhost"]]',
    'application/json', '{"order": 42, "customer": "c-1001", "amount": 1999, "currency": "EUR"}', '127.0.0.1', at FROM made),
l AS (
  INSERT INTO logs (id, callback_id, user_id, event, details, response_time, status_code, success, created_at)
  SELECT id, %(callback)s, %(user)s, 'trigger.settled', jsonb_build_object('reason', NULL, 'steps', jsonb_build_array(
    jsonb_build_object('actionId', %(action)s, 'type', 'HTTP_POST', 'step', 0, 'status', 'SUCCESS', 'attempt', 1))),
    12, 200, true, at FROM made)
INSERT INTO action_executions (trigger_id, id, action_id, callback_id, user_id, type, step, status, attempt, claim, response,
  duration_ms, started_at, finished_at)
SELECT id, (left(id::text, 28) || right(md5(id::text), 8))::uuid, %(action)s, %(callback)s, %(user)s, 'HTTP_POST', 0,
  'SUCCESS', 1, 1, '{"statusCode": 200, "headers": {"content-type": "text/plain", "server": "nginx"}, "body": "ok"}', 2, at, at
FROM made
"""


def fill(
    cursor: Any,
    callback_id: UUID | str,
    user_id: UUID | str,
    action_id: UUID | str,
    count: int,
    *,
    days_ago: int,
) -> None:
    """Make so many settled triggers, spread over a UTC day; over the past part of today for 0 days
    ago.
    """
    cursor.execute(
        "SELECT day, least(day + interval '1 day', now()) FROM ("
        "SELECT date_trunc('day', now(), 'UTC') - make_interval(days => %s) AS day) days",
        (days_ago,),
    )
    first, last = cursor.fetchone()
    cursor.execute(
        _MAKE,
        {
            "from": first,
            "to": last,
            "count": count,
            "callback": str(callback_id),
            "user": str(user_id),
            "action": str(action_id),
        },
    )
