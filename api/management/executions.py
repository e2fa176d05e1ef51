"""Executions: /api/v1/executions."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from flask_openapi import APIBlueprint
from sqlalchemy import Row, Select, exists, or_, select
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


@executions.get("/executions")
def list_executions(query: ExecutionQuery) -> dict[str, Any]:
    """The caller's executions, newest first."""
    user_id = caller().user_id
    mine = select(Action.id).where(Action.user_id == user_id)
    statement = of_caller().where(ActionExecution.action_id.in_(mine))
    if query.action_id is not None:
        statement = statement.where(ActionExecution.action_id == query.action_id)
    if query.status is not None:
        statement = statement.where(ActionExecution.status == query.status)
    if query.status in ("PENDING", "RUNNING"):  # these are few, whatever the history: found by their runs
        statement = statement.where(ActionExecution.trigger_id.in_(_in_motion(user_id)))
    if query.status == "FAILED":  # a settled trigger with one of these is listed among the failures
        of_failures = ActionExecution.trigger_id.in_(_failed(user_id))
        statement = statement.where(or_(of_failures, ActionExecution.trigger_id.in_(_in_motion(user_id))))
    if query.cursor is not None:
        statement = statement.where(ActionExecution.id < query.cursor)
    with Session(services().engine) as session:
        rows = session.execute(statement.order_by(ActionExecution.id.desc()).limit(query.limit + 1)).all()
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
