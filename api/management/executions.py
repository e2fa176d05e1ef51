"""Executions: /api/v1/executions."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from flask_openapi import APIBlueprint
from sqlalchemy import ColumnElement, Row, Select, and_, exists, or_, select, true
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.management.body import IdPath, PageQuery
from api.management.paging import page
from api.services import services
from shared.errors import NotFound
from shared.ids import trigger_range
from shared.models import Action, ActionExecution, Callback, Log, Run

executions = APIBlueprint("executions", __name__, url_prefix="/api/v1")
executions.before_request(authenticate)

_CALLBACK_LIVES = exists().where(Callback.id == ActionExecution.callback_id, Callback.deleted_at.is_(None))


class ExecutionQuery(PageQuery):
    """Which executions: of one action, with one status."""

    action_id: UUID | None = None
    status: Literal["PENDING", "RUNNING", "SUCCESS", "FAILED"] | None = None


def show_execution(execution: ActionExecution, action_name: str | None) -> dict[str, Any]:
    """An execution as the API shows it."""
    return {
        "id": execution.id,
        "triggerId": execution.trigger_id,
        "actionId": execution.action_id,
        "actionName": action_name,
        "type": execution.type,
        "step": execution.step,
        "status": execution.status,
        "attempt": execution.attempt,
        "response": execution.response,
        "error": execution.error,
        "durationMs": execution.duration_ms,
        "startedAt": execution.started_at,
        "finishedAt": execution.finished_at,
        "nextAttemptAt": execution.next_attempt_at,
        "history": execution.history,
    }


def _show(row: Row[ActionExecution, str | None]) -> dict[str, Any]:
    return show_execution(row[0], row[1])


def of_caller() -> Select[ActionExecution, str | None]:
    """The caller's executions, each with the name of its action."""
    return (
        select(ActionExecution, Action.name)
        .outerjoin(Action, Action.id == ActionExecution.action_id)
        .where(ActionExecution.user_id == caller().user_id, _CALLBACK_LIVES)
    )


def _in_motion(user_id: UUID) -> Select[Any]:
    return select(Run.trigger_id).where(Run.user_id == user_id)


def _failed(user_id: UUID) -> Select[Any]:
    mine = select(Callback.id).where(Callback.user_id == user_id)
    return select(Log.id).where(Log.callback_id.in_(mine), ~Log.success)


def _conditions(query: ExecutionQuery, user_id: UUID) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.status is not None:
        conditions.append(ActionExecution.status == query.status)
    if query.status in ("PENDING", "RUNNING"):  # these are few, whatever the history: found by their runs
        conditions.append(ActionExecution.trigger_id.in_(_in_motion(user_id)))
    if query.status == "FAILED":  # a settled trigger with one of these is listed among the failures
        of_failures = ActionExecution.trigger_id.in_(_failed(user_id))
        conditions.append(or_(of_failures, ActionExecution.trigger_id.in_(_in_motion(user_id))))
    if query.cursor is not None:
        conditions.append(ActionExecution.id < query.cursor)
    return conditions


def _newest(query: ExecutionQuery, user_id: UUID) -> Select[Any]:
    """The keys of one page: the newest of each action, which its index has in order, and of these the newest.

    Without the detour PostgreSQL reads and sorts all that the caller's actions ever did.
    """
    of_each = (
        select(ActionExecution.trigger_id, ActionExecution.id)
        .where(ActionExecution.action_id == Action.id, *_conditions(query, user_id))
        .order_by(ActionExecution.id.desc())
        .limit(query.limit + 1)
        .lateral("of_each")
    )
    mine = select(of_each.c.trigger_id, of_each.c.id).select_from(Action).join(of_each, true())
    mine = mine.where(Action.user_id == user_id)
    if query.action_id is not None:
        mine = mine.where(Action.id == query.action_id)
    return mine.order_by(of_each.c.id.desc()).limit(query.limit + 1)


@executions.get("/executions")
def list_executions(query: ExecutionQuery) -> dict[str, Any]:
    """The caller's executions, newest first."""
    keys = _newest(query, caller().user_id).subquery()
    statement = of_caller().join(
        keys, and_(ActionExecution.trigger_id == keys.c.trigger_id, ActionExecution.id == keys.c.id)
    )
    with Session(services().engine) as session:
        rows = session.execute(statement.order_by(ActionExecution.id.desc())).all()
        return page(rows, query.limit, _show)


@executions.get("/executions/<uuid:id>")
def get_execution(path: IdPath) -> dict[str, Any]:
    """One execution."""
    with Session(services().engine) as session:
        return _show(own_execution(session, path.id))


def own_execution(session: Session, execution_id: UUID) -> Row[ActionExecution, str | None]:
    """The caller's execution with this id and its action's name; raises NotFound."""
    lowest, highest = trigger_range(execution_id)
    found = session.execute(
        of_caller().where(
            ActionExecution.trigger_id.between(lowest, highest), ActionExecution.id == execution_id
        )
    ).first()
    if found is None:
        raise NotFound("You have no such execution.")
    return found
