"""Triggers with their executions, and logs: /api/v1/triggers, /api/v1/callbacks/{id}/logs."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from flask_openapi import APIBlueprint
from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, Row, Select, case, exists, select
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.management.body import IdPath, PageQuery
from api.management.callbacks import own_callback
from api.management.content import shown
from api.management.executions import of_caller, show_execution
from api.management.paging import page
from api.services import services
from shared.errors import NotFound
from shared.ids import first_id_of
from shared.models import ActionExecution, Callback, Log, Run, Trigger

triggers = APIBlueprint("triggers", __name__, url_prefix="/api/v1")
triggers.before_request(authenticate)

MAX_SHOWN_BODY_BYTES = 64 * 1024

StatusName = Literal["PENDING", "RUNNING", "SUCCESS", "FAILED"]


class TriggerQuery(PageQuery):
    """Which triggers: of one callback, with one status, received from `from` until before `to` (ISO 8601, with a zone)."""

    callback_id: UUID | None = None
    status: StatusName | None = None
    from_: AwareDatetime | None = None
    to: AwareDatetime | None = None

    model_config = PageQuery.model_config | {
        "alias_generator": lambda name: {"callback_id": "callbackId", "from_": "from"}.get(name, name)
    }


_status = case(
    (Run.trigger_id.is_not(None), Run.status.cast(Log.event.type)),
    (Log.success, "SUCCESS"),
    else_="FAILED",
)
_CALLBACK_LIVES = exists().where(Callback.id == Trigger.callback_id, Callback.deleted_at.is_(None))


def _select() -> Select[Any]:
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
            Trigger.content_type,
            Trigger.replay_of,
        )
        .outerjoin(Run, Run.trigger_id == Trigger.id)
        .outerjoin(Log, Log.id == Trigger.id)
        .where(Trigger.user_id == caller().user_id, _CALLBACK_LIVES)
    )


def show_trigger(row: Row[Any]) -> dict[str, Any]:
    """A trigger as the API shows it."""
    return {
        "id": row.id,
        "callbackId": row.callback_id,
        "status": row.status,
        "reason": (row.details or {}).get("reason"),
        "receivedAt": row.received_at,
        "finishedAt": row.finished_at,
        "method": row.method,
        "path": row.path,
        "contentType": row.content_type,
        "replayOf": row.replay_of,
    }


def _conditions(query: TriggerQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.callback_id is not None:
        conditions.append(Trigger.callback_id == query.callback_id)
    if query.status is not None:
        conditions.append(_status == query.status)
    if query.from_ is not None:
        conditions.append(Trigger.id >= first_id_of(query.from_))
    if query.to is not None:
        conditions.append(Trigger.id < first_id_of(query.to))
    if query.cursor is not None:
        conditions.append(Trigger.id < query.cursor)
    return conditions


@triggers.get("/triggers")
def list_triggers(query: TriggerQuery) -> dict[str, Any]:
    """The caller's triggers, newest first."""
    statement = _select().where(*_conditions(query)).order_by(Trigger.id.desc()).limit(query.limit + 1)
    with Session(services().engine) as session:
        return page(session.execute(statement).all(), query.limit, show_trigger)


@triggers.get("/triggers/<uuid:id>")
def get_trigger(path: IdPath) -> dict[str, Any]:
    """One trigger with the recorded request and its executions in the order of their steps."""
    with Session(services().engine) as session:
        row = own_trigger(session, path.id)
        executions = session.execute(
            of_caller()
            .where(ActionExecution.trigger_id == path.id)
            .order_by(ActionExecution.step, ActionExecution.id)
        ).all()
        recorded = session.scalars(select(Trigger).where(Trigger.id == path.id)).one()
        return {
            **show_trigger(row),
            "request": _show_request(recorded),
            "executions": [show_execution(e, name) for e, name in executions],
        }


def own_trigger(session: Session, trigger_id: UUID) -> Row[Any]:
    """The caller's trigger with this id, as a list shows it; raises NotFound."""
    found = session.execute(_select().where(Trigger.id == trigger_id)).first()
    if found is None:
        raise NotFound("You have no such trigger.")
    return found


def _show_request(trigger: Trigger) -> dict[str, Any]:
    """The call as it was recorded; a long body is left out, its size is not."""
    encoding, value = shown(trigger.body) if len(trigger.body) <= MAX_SHOWN_BODY_BYTES else (None, None)
    return {
        "query": trigger.query,
        "headers": trigger.headers,
        "sourceIp": trigger.source_ip,
        "body": value,
        "bodyEncoding": encoding,
        "bodyBytes": len(trigger.body),
    }


class LogQuery(PageQuery):
    """success: only rows with this outcome."""

    success: bool | None = None


@triggers.get("/callbacks/<uuid:id>/logs")
def list_logs(path: IdPath, query: LogQuery) -> dict[str, Any]:
    """A callback's log, newest first: one row for each settled trigger and each notable event."""
    with Session(services().engine) as session:
        callback = own_callback(session, path.id)
        statement = select(Log).where(Log.callback_id == callback.id)
        if query.success is not None:
            statement = statement.where(Log.success if query.success else ~Log.success)
        if query.cursor is not None:
            statement = statement.where(Log.id < query.cursor)
        rows = session.scalars(statement.order_by(Log.id.desc()).limit(query.limit + 1)).all()
        return page(rows, query.limit, _show_log)


def _show_log(log: Log) -> dict[str, Any]:
    return {
        "id": log.id,
        "event": log.event,
        "success": log.success,
        "statusCode": log.status_code,
        "responseTime": log.response_time,
        "details": log.details,
        "createdAt": log.created_at,
    }
