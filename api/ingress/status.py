"""The public status of one trigger: what whoever knows the trigger URL may see."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

_STATUS = text("""
SELECT t.id, t.received_at, coalesce(r.status::text, CASE WHEN l.success THEN 'SUCCESS' ELSE 'FAILED' END),
  l.created_at
FROM triggers t
LEFT JOIN runs r ON r.trigger_id = t.id
LEFT JOIN logs l ON l.id = t.id
WHERE t.id = :trigger_id AND t.callback_id = :callback_id
""")


def read_status(engine: Engine, callback_id: UUID, trigger_id: UUID) -> dict[str, Any] | None:
    """`{"triggerId","status","receivedAt","finishedAt"}`, or None when the callback has no such trigger."""
    with engine.connect() as connection:
        row = connection.execute(_STATUS, {"trigger_id": trigger_id, "callback_id": callback_id}).first()
    if row is None:
        return None
    return {"triggerId": row[0], "status": row[2], "receivedAt": row[1], "finishedAt": row[3]}
