"""Executions: one action for one trigger, with its attempts.

Invariant: nothing here changes an execution; the engine does. A list without an action walks the owner's triggers, whose
order is the executions' own, since an execution's id begins like its trigger's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import SkipValidation
from sqlalchemy import ColumnElement, FromClause, Row, Select, and_, exists, select, true
from sqlalchemy.orm import Session

from api.resources.history import Scope, Status, not_deleted
from api.resources.paging import Source, walk
from api.resources.shapes import Page, PageQuery, Shown
from api.work import Work
from shared.errors import NotFound
from shared.ids import trigger_range
from shared.models import Action, ActionExecution, ActionType, Callback, ExecutionStatus


class ExecutionQuery(PageQuery):
    """Which executions: of one action, with one status."""

    action_id: UUID | None = None
    status: Status | None = None


class ShownExecution(Shown):
    """An execution: its present or last attempt, and the attempts before it."""

    id: UUID
    trigger_id: UUID
    action_id: UUID
    action_name: str | None
    type: ActionType
    step: int
    status: ExecutionStatus
    attempt: int
    response: SkipValidation[dict[str, Any] | None]
    error: str | None
    duration_ms: int | None
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
    history: SkipValidation[list[dict[str, Any]]]


class ExecutionPage(Page[ShownExecution]):
    """Executions, newest first."""


_CALLBACK_LIVES = exists().where(Callback.id == ActionExecution.callback_id, Callback.deleted_at.is_(None))


def find(work: Work, owner: UUID, execution_id: UUID) -> ShownExecution:
    """One execution; raises NotFound."""
    return _show(own(work.session, owner, execution_id))


def page(work: Work, owner: UUID, query: ExecutionQuery) -> ExecutionPage:
    """The owner's executions, newest first."""
    if query.action_id is not None:
        if not _is_own_action(work.session, owner, query.action_id):
            return ExecutionPage(items=[])
        keys = walk(work.session, [_of_action(query, query.action_id)], query.limit)
        triggers = [trigger_range(one) for one in keys.ids]
    else:
        scope = Scope(owner, through=query.cursor and trigger_range(query.cursor)[1])
        keys = walk(work.session, _sources(scope, query.status), query.limit, _executions_of(owner, query))
        triggers = [(row.walked, row.walked) for row in keys.rows]
    rows = []
    if keys.ids:
        lowest, highest = min(low for low, _ in triggers), max(high for _, high in triggers)
        statement = _select().where(
            ActionExecution.trigger_id.between(lowest, highest), ActionExecution.id.in_(keys.ids)
        )
        rows = list(work.session.execute(statement.order_by(ActionExecution.id.desc())).all())
    around = keys.around
    if keys.stopped_at is not None and query.action_id is None:  # it names a trigger; the cursor an execution
        around["next_cursor"] = trigger_range(keys.stopped_at)[0]
    items = [_show(row) for row in rows if query.status in (None, row[0].status.value)]
    return ExecutionPage(items=items, **around)


def of_trigger(work: Work, owner: UUID, trigger_id: UUID) -> list[ShownExecution]:
    """A trigger's executions in the order of their steps."""
    rows = work.session.execute(
        _select()
        .where(ActionExecution.user_id == owner, ActionExecution.trigger_id == trigger_id)
        .order_by(ActionExecution.step, ActionExecution.id)
    )
    return [_show(row) for row in rows]


def own(session: Session, owner: UUID, execution_id: UUID) -> Row[ActionExecution, str | None]:
    """The owner's execution with this id and its action's name; raises NotFound."""
    lowest, highest = trigger_range(execution_id)
    found = session.execute(
        _select().where(
            ActionExecution.trigger_id.between(lowest, highest),
            ActionExecution.id == execution_id,
            ActionExecution.user_id == owner,
            _CALLBACK_LIVES,
        )
    ).first()
    if found is None:
        raise NotFound("You have no such execution.")
    return found


def _select() -> Select[ActionExecution, str | None]:
    return select(ActionExecution, Action.name).outerjoin(Action, Action.id == ActionExecution.action_id)


def _sources(scope: Scope, status: Status | None) -> list[Source]:
    """Where triggers are that may have executions with this status."""
    if status in ("PENDING", "RUNNING"):
        return [scope.in_motion()]
    if status == "FAILED":  # a settled trigger with one of these is listed among the failures
        return [scope.logs(success=False, settled_only=True), scope.in_motion()]
    return [scope.triggers()]


def _of_action(query: ExecutionQuery, action_id: UUID) -> Source:
    entries = select(ActionExecution.id.label("id"), ActionExecution.status).where(
        ActionExecution.action_id == action_id
    )
    if query.cursor is not None:
        entries = entries.where(
            ActionExecution.id < query.cursor, ActionExecution.trigger_id <= trigger_range(query.cursor)[1]
        )
    return Source(entries, lambda columns: [columns.status == query.status] if query.status else [])


def _executions_of(owner: UUID, query: ExecutionQuery) -> Any:
    """Makes the list of executions from the walked triggers."""

    def expand(walked: FromClause) -> Select[Any]:
        wanted: list[ColumnElement[bool]] = [ActionExecution.trigger_id == walked.c.id]
        if query.status is not None:
            wanted.append(ActionExecution.status == query.status)
        if query.cursor is not None:
            wanted.append(ActionExecution.id < query.cursor)
        deleted = select(Action.id).where(Action.user_id == owner, Action.deleted_at.is_not(None))
        wanted.append(ActionExecution.action_id.not_in(deleted))
        each = select(ActionExecution.id).where(and_(*wanted)).lateral("each")
        statement: Select[Any] = select(each.c.id, walked.c.id.label("walked"))
        return statement.select_from(walked).join(each, true()).order_by(walked.c.id.desc(), each.c.id.desc())

    return expand


def _is_own_action(session: Session, owner: UUID, action_id: UUID) -> bool:
    found = session.scalar(
        select(Action.id).where(
            Action.id == action_id,
            Action.user_id == owner,
            Action.deleted_at.is_(None),
            not_deleted(Action.callback_id, owner),
        )
    )
    return found is not None


def _show(row: Row[ActionExecution, str | None]) -> ShownExecution:
    execution, action_name = row
    return ShownExecution(
        id=execution.id,
        trigger_id=execution.trigger_id,
        action_id=execution.action_id,
        action_name=action_name,
        type=execution.type,
        step=execution.step,
        status=execution.status,
        attempt=execution.attempt,
        response=execution.response,
        error=execution.error,
        duration_ms=execution.duration_ms,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        next_attempt_at=execution.next_attempt_at,
        history=execution.history,
    )
