"""Triggers enter: each with its run, PENDING and due, in one statement.

Invariant: a run is inserted only for a trigger that was really inserted. So a batch that is
repeated after an ambiguous COMMIT brings back no run that has settled meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array
from shared.postgres.statements import Statement, make_ready

_ENTER = Statement(
    "enter",
    "uuid[], uuid[], uuid[], text[], text[], text[], text[], text[], bytea[], text[], text[], float8, uuid[]",
    """
WITH t AS (
  INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip,
    idempotency_key)
  SELECT i.id, i.callback_id, i.user_id, i.method, i.path, i.query, i.headers::jsonb, i.content_type, i.body,
    i.source_ip::inet, i.idempotency_key
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    AS i(id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip, idempotency_key)
  ON CONFLICT DO NOTHING RETURNING id, callback_id, user_id)
INSERT INTO runs (trigger_id, callback_id, user_id, hint_at, awaited)
SELECT id, callback_id, user_id, now() + make_interval(secs => $12), id = ANY($13) FROM t
""",
)


def enter(cursor: Any, columns: Sequence[str], hint_in_seconds: float, awaited: Iterable[UUID]) -> None:
    """Insert triggers and their runs.

    columns: arrays of id, callback_id, user_id, method, path, query, headers, content_type, body,
    source_ip and idempotency_key. hint_in_seconds: when the sweep looks at them if their hint is
    lost. awaited: whose end a caller waits for.
    """
    make_ready(cursor, _ENTER)
    cursor.execute(_ENTER.call, (*columns, hint_in_seconds, array(awaited)))
