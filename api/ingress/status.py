"""The public status of one trigger: what whoever knows the trigger URL may see."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from api.awaited import Answer
from api.ingress.parts import IngressParts
from shared.errors import NotFound, Unavailable

_STATUS = text("""
SELECT t.id, t.received_at, coalesce(r.status::text, CASE WHEN l.success THEN 'SUCCESS' ELSE 'FAILED' END),
  l.created_at
FROM triggers t
LEFT JOIN runs r ON r.trigger_id = t.id
LEFT JOIN logs l ON l.id = t.id
WHERE t.id = :trigger_id AND t.callback_id = :callback_id
""")


async def status_of(address: str, trigger_id: str, request_id: str, own: IngressParts) -> Answer:
    """`{"triggerId","status","receivedAt","finishedAt"}` of a trigger of the callback at this
    address. Raises NotFound.
    """
    try:
        async with own.deadline.limit():
            callback = await own.resolver.find(address)
            wanted = UUID(trigger_id)
            status = await own.threads.call(_read, own.database, callback.callback_id, wanted)
    except TimeoutError:
        raise Unavailable("The status could not be read in time.") from None
    except ValueError:
        raise NotFound("This is not a trigger's id.") from None
    if status is None:
        raise NotFound("This callback has no such trigger.")
    named = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-request-id", request_id),
    ]
    return 200, named, orjson.dumps(status, option=orjson.OPT_UTC_Z)


def _read(database: Engine, callback_id: UUID, trigger_id: UUID) -> dict[str, Any] | None:
    with database.connect() as connection:
        row = connection.execute(_STATUS, {"trigger_id": trigger_id, "callback_id": callback_id}).first()
    if row is None:
        return None
    return {"triggerId": row[0], "status": row[2], "receivedAt": row[1], "finishedAt": row[3]}
