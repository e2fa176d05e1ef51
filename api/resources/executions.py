"""Executions: one action for one trigger, with its attempts.

Invariant: nothing here changes an execution. The engine does.

A list without an action walks the owner's triggers, whose order is the executions' own, since an
execution's id begins like its trigger's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import SkipValidation
from sqlalchemy import ColumnElement, FromClause, Row, Select, select, true
from sqlalchemy.orm import Session

from api.resources.history import Past, Status, callback_lives, not_deleted
from api.resources.paging import Source, Statement, only, walk
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Page, PageQuery, Shown, example
from api.work import Work
from shared.errors import NotFound
from shared.ids import trigger_range
from shared.models import Action, ActionExecution, ActionType, ExecutionStatus


class ExecutionQuery(PageQuery):
    """Which executions: of one action, with one status."""

    action_id: UUID | None = None
    status: Status | None = None


class ShownExecution(Shown):
    """An execution: its present or last attempt, and the attempts before it."""

    model_config = example(
        id=EXAMPLE_ID,
        triggerId=EXAMPLE_OTHER_ID,
        actionId=EXAMPLE_OTHER_ID,
        actionName="primary",
        type="HTTP_POST",
        step=0,
        status="SUCCESS",
        attempt=1,
        response={
            "statusCode": 200,
            "headers": {"content-type": "text/plain"},
            "body": "ok",
            "truncated": False,
        },
        error=None,
        durationMs=12,
        startedAt=EXAMPLE_TIME,
        finishedAt=EXAMPLE_TIME,
        nextAttemptAt=None,
        history=[],
    )

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


def find(work: Work, owner: UUID, execution_id: UUID) -> ShownExecution:
    """One execution; raises NotFound."""
    return _show(own(work.session, owner, execution_id))


def page(work: Work, owner: UUID, query: ExecutionQuery) -> ExecutionPage:
    """The owner's executions, newest first."""
    callback_id = None
    if query.action_id is not None:
        callback_id = _callback_of(work.session, owner, query.action_id)
        if callback_id is None:
            return ExecutionPage(items=[])
    if query.action_id is not None and query.status in (None, "SUCCESS"):
        keys = walk(work.session, [_of_action(query, query.action_id)], query.limit)
        next_cursor = keys.next_cursor
    else:
        past = Past(owner, callback_id, through=query.cursor and trigger_range(query.cursor)[1])
        keys = walk(work.session, _sources(past, query.status), query.limit, _executions_of(query))
        # where the search stopped, it names a trigger; the cursor is below all of that one's
        # executions
        next_cursor = trigger_range(keys.stopped_at)[0] if keys.stopped_at else keys.next_cursor
    statement = _select(owner).where(
        ActionExecution.trigger_id.in_([row.trigger_id for row in keys.rows]),
        ActionExecution.id.in_(keys.ids),
    )
    rows = work.session.execute(statement.order_by(ActionExecution.id.desc()))
    return ExecutionPage(items=[_show(row) for row in rows], next_cursor=next_cursor, partial=keys.is_partial)


def of_trigger(work: Work, owner: UUID, trigger_id: UUID) -> list[ShownExecution]:
    """A trigger's executions in the order of their steps."""
    statement = _select(owner).where(ActionExecution.trigger_id == trigger_id)
    rows = work.session.execute(statement.order_by(ActionExecution.step, ActionExecution.id))
    return [_show(row) for row in rows]


def own(session: Session, owner: UUID, execution_id: UUID) -> Row[ActionExecution, str | None]:
    """The owner's execution with this id and its action's name; raises NotFound."""
    lowest, highest = trigger_range(execution_id)
    found = session.execute(
        _select(owner).where(
            ActionExecution.trigger_id.between(lowest, highest),
            ActionExecution.id == execution_id,
            callback_lives(ActionExecution.callback_id),
        )
    ).first()
    if found is None:
        raise NotFound("You have no such execution.")
    return found


def _select(owner: UUID) -> Select[ActionExecution, str | None]:
    return (
        select(ActionExecution, Action.name)
        .outerjoin(Action, Action.id == ActionExecution.action_id)
        .where(ActionExecution.user_id == owner)
    )


def _sources(past: Past, status: Status | None) -> list[Source]:
    """Where triggers are that may have executions with this status."""
    if status in ("PENDING", "RUNNING"):
        return [past.in_motion()]
    if status == "FAILED":  # a settled trigger with one of these is listed among the failures
        return [past.logs(success=False, settled_only=True), past.in_motion()]
    return [past.triggers()]


def _of_action(query: ExecutionQuery, action_id: UUID) -> Source:
    entries: Statement = select(
        ActionExecution.id.label("id"), ActionExecution.trigger_id, ActionExecution.status
    )
    entries = entries.where(*only(ActionExecution.action_id, action_id))
    if query.cursor is not None:
        entries = entries.where(
            ActionExecution.id < query.cursor, ActionExecution.trigger_id <= trigger_range(query.cursor)[1]
        )
    entries = entries.order_by(ActionExecution.action_id.desc(), ActionExecution.id.desc())
    return Source(
        entries,
        lambda columns: [columns.status == query.status] if query.status else [],
        carried=("trigger_id",),
    )


def _executions_of(query: ExecutionQuery) -> Callable[[FromClause], Statement]:
    """Makes the list of executions from the wanted triggers."""

    def expand(found: FromClause) -> Statement:
        wanted: list[ColumnElement[bool]] = [ActionExecution.trigger_id == found.c.id]
        if query.status is not None:
            wanted.append(ActionExecution.status == query.status)
        if query.action_id is not None:
            wanted.append(ActionExecution.action_id == query.action_id)
        if query.cursor is not None:
            wanted.append(ActionExecution.id < query.cursor)
        # the limit keeps PostgreSQL from joining the whole table: each trigger costs one look-up
        of_trigger = select(ActionExecution.id).where(*wanted).order_by(ActionExecution.id.desc())
        each = of_trigger.limit(query.limit + 1).lateral("each")
        statement: Statement = select(each.c.id, found.c.id.label("entry"), found.c.id.label("trigger_id"))
        joined = statement.select_from(found).join(each, true())
        return joined.order_by(found.c.id.desc(), each.c.id.desc())

    return expand


def _callback_of(session: Session, owner: UUID, action_id: UUID) -> UUID | None:
    """The callback of the owner's action, None when they have no such action."""
    return session.scalar(
        select(Action.callback_id).where(
            Action.id == action_id, Action.user_id == owner, not_deleted(Action.callback_id, owner)
        )
    )


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
