"""Triggers: recorded calls of trigger URLs, with what became of them.

Invariant: a trigger is never changed. Its status is its run's, or its log row's once it has
settled.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, SkipValidation
from sqlalchemy import Row, Select, and_, case, func, select
from sqlalchemy.orm import Session

from api.resources import callbacks, executions
from api.resources.content import Content, Encoding, beginning, is_coded, shown, whole
from api.resources.history import Past, Status, callback_lives
from api.resources.paging import walk
from api.resources.shapes import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    EachOf,
    Given,
    Page,
    PageQuery,
    Shown,
    example,
)
from api.work import Work
from shared.errors import Conflict, NotFound
from shared.ids import first_id_of
from shared.masks import masked_recorded
from shared.models import Log, Run, Trigger
from shared.postgres.connections import cursor_of
from shared.runs.settle import cancel as settle_as_cancelled

# Read at a time, where all are given: 80 KiB, and 300 at most.
LINES_READ = 200

# In a list. The recorded request has all of it.
MAX_SHOWN_TYPE_CHARS = 500


class _Filter(BaseModel):
    """Which triggers: of one callback, with one status, received from `from` until before `to` (ISO
    8601, with a zone).
    """

    callback_id: UUID | None = None
    status: Status | None = None
    from_: AwareDatetime | None = Field(None, alias="from")
    to: AwareDatetime | None = None


class TriggerQuery(PageQuery, _Filter):
    """Which part of a list of triggers."""


class TriggerExport(Given, _Filter):
    """All triggers of a list, or those after `cursor`."""

    cursor: UUID | None = None


_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "callbackId": EXAMPLE_OTHER_ID,
    "status": "SUCCESS",
    "reason": None,
    "receivedAt": EXAMPLE_TIME,
    "finishedAt": EXAMPLE_TIME,
    "method": "POST",
    "path": "/t/3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz",
    "contentType": "application/json",
    "replayOf": None,
}


class ShownTrigger(Shown):
    """A recorded call, and how far it is."""

    model_config = example(**_EXAMPLE)

    id: UUID
    callback_id: UUID
    status: Status
    reason: str | None = Field(description="Why it ended without running, or without success; else null.")
    received_at: datetime
    finished_at: datetime | None
    method: str
    path: str
    content_type: str | None
    replay_of: UUID | None


class RecordedRequest(Shown):
    """The call as it was recorded: the body as the text that came, in base64 where it is no text.

    A body with a Content-Encoding is no text.
    truncated: it is the first 64 KiB; `/triggers/{id}/body` gives all of it.
    """

    model_config = example(
        query="",
        headers=[["content-type", "application/json"]],
        sourceIp="203.0.113.7",
        body='{"order": 42}',
        bodyEncoding="text",
        bodyBytes=13,
        truncated=False,
    )

    query: str
    headers: SkipValidation[list[tuple[str, str]]]
    source_ip: str | None
    body: str
    body_encoding: Encoding
    body_bytes: int
    truncated: bool


class TriggerDetail(ShownTrigger):
    """A trigger with the recorded request and its executions in the order of their steps."""

    model_config = example(
        **_EXAMPLE,
        request={
            "query": "",
            "headers": [["content-type", "application/json"]],
            "sourceIp": "203.0.113.7",
            "body": '{"order": 42}',
            "bodyEncoding": "text",
            "bodyBytes": 13,
            "truncated": False,
        },
        executions=[],
    )

    request: RecordedRequest
    executions: list[executions.ShownExecution]


class TriggerPage(Page[ShownTrigger]):
    """Triggers, newest first."""


_status = case(
    (Run.trigger_id.is_not(None), Run.status.cast(Log.event.type)),
    (Log.success, "SUCCESS"),
    else_="FAILED",
)


def find(work: Work, owner: UUID, trigger_id: UUID) -> TriggerDetail:
    """One trigger with everything; raises NotFound."""
    row = own(work.session, owner, trigger_id)
    return TriggerDetail(
        **_fields(row),
        request=_request(work.session, trigger_id),
        executions=executions.of_trigger(work, owner, trigger_id),
    )


def body(work: Work, owner: UUID, trigger_id: UUID) -> Content:
    """The body as it came; raises NotFound, and Unavailable as whole() does."""
    own(work.session, owner, trigger_id)
    row = Trigger.id == trigger_id
    size = work.session.scalars(select(func.octet_length(Trigger.body)).where(row)).one()
    return whole(work, Trigger.body, row, size)


def page(work: Work, owner: UUID, query: TriggerQuery) -> TriggerPage:
    """The owner's triggers, newest first."""
    return _page(work, owner, query, query.cursor, query.limit)


def each(query: TriggerExport) -> EachOf[ShownTrigger]:
    """All the triggers of whoever works, newest first."""

    def page(work: Work, cursor: UUID | None) -> TriggerPage:
        if cursor is not None and query.callback_id is not None:
            callbacks.own(work.session, work.owner, query.callback_id)  # else a part looks whole
        return _page(work, work.owner, query, cursor or query.cursor, LINES_READ)

    return EachOf(page)


def _page(work: Work, owner: UUID, query: _Filter, cursor: UUID | None, limit: int) -> TriggerPage:
    if query.callback_id is not None and not callbacks.is_own(work.session, owner, query.callback_id):
        return TriggerPage(items=[])
    past = Past(
        owner,
        query.callback_id,
        before=cursor,
        first=_first_id(query.from_),
        end=_first_id(query.to),
    )
    keys = walk(work.session, [past.by_status(query.status)], limit)
    rows = work.session.execute(_select(owner, keys.ids).order_by(Trigger.id.desc()))
    items = [ShownTrigger(**_fields(row)) for row in rows]
    return TriggerPage(items=items, next_cursor=keys.next_cursor, partial=keys.is_partial)


def cancel(work: Work, owner: UUID, trigger_id: UUID) -> ShownTrigger:
    """End a waiting or running trigger. Conflict: it has settled."""
    own(work.session, owner, trigger_id)
    if not settle_as_cancelled(cursor_of(work.session), owner, trigger_id):
        raise Conflict(
            "This trigger has settled already.", code="trigger_settled", hint="There is nothing to cancel."
        )
    work.tell_settled([trigger_id])
    work.audit("trigger_cancelled", trigger=trigger_id)
    return show(work.session, owner, trigger_id)


def show(session: Session, owner: UUID, trigger_id: UUID) -> ShownTrigger:
    """A trigger as a list shows it; raises NotFound."""
    return ShownTrigger(**_fields(own(session, owner, trigger_id)))


def own(session: Session, owner: UUID, trigger_id: UUID) -> Row[Any]:
    """The row of the owner's trigger with this id; raises NotFound."""
    found = session.execute(
        _select(owner, [trigger_id]).where(callback_lives(Trigger.callback_id))
    ).one_or_none()
    if found is None:
        raise NotFound("You have no such trigger.")
    return found


def _first_id(moment: datetime | None) -> UUID | None:
    return None if moment is None else first_id_of(moment)


def _select(owner: UUID, ids: list[UUID]) -> Select[Any]:
    """These triggers of the owner with run and log.

    Every table is told the ids, so that only their partitions are read.
    """
    return (
        select(
            Trigger.id,
            Trigger.callback_id,
            _status.label("status"),
            Log.details,
            Log.created_at.label("finished_at"),
            Trigger.received_at,
            Trigger.method,
            Trigger.path,
            func.left(Trigger.content_type, MAX_SHOWN_TYPE_CHARS).label("content_type"),
            Trigger.replay_of,
        )
        .outerjoin(Run, and_(Run.trigger_id == Trigger.id, Run.trigger_id.in_(ids)))
        .outerjoin(Log, and_(Log.id == Trigger.id, Log.id.in_(ids)))
        .where(Trigger.id.in_(ids), Trigger.user_id == owner)
    )


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "callback_id": row.callback_id,
        "status": row.status,
        "reason": (row.details or {}).get("reason"),
        "received_at": row.received_at,
        "finished_at": row.finished_at,
        "method": row.method,
        "path": row.path,
        "content_type": row.content_type,
        "replay_of": row.replay_of,
    }


def _request(session: Session, trigger_id: UUID) -> RecordedRequest:
    size = func.octet_length(Trigger.body)
    columns = (Trigger.query, Trigger.headers, Trigger.source_ip, beginning(Trigger.body), size)
    query, headers, source_ip, first, body_bytes = session.execute(
        select(*columns).where(Trigger.id == trigger_id)
    ).one()
    named = [(name, masked_recorded(name, value)) for name, value in headers]
    encoding, text, truncated = shown(first, body_bytes, is_coded=is_coded(named))
    return RecordedRequest(
        query=query,
        headers=named,
        source_ip=source_ip,
        body=text,
        body_encoding=encoding,
        body_bytes=body_bytes,
        truncated=truncated,
    )
