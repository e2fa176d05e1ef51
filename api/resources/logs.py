"""Logs: how a callback's triggers ended, and its notable events.

Written by the engine, read here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, SkipValidation
from sqlalchemy import select

from api.resources import callbacks
from api.resources.history import Past
from api.resources.paging import walk
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_TIME, Page, PageQuery, Shown, example
from api.work import Work
from shared.models import Log


class LogQuery(PageQuery):
    """success: only rows with this outcome."""

    success: bool | None = None


class ShownLog(Shown):
    """One settled trigger, whose id it bears, or one event."""

    model_config = example(
        id=EXAMPLE_ID,
        event="trigger.settled",
        success=True,
        statusCode=200,
        responseTime=14,
        details={"reason": None, "steps": []},
        createdAt=EXAMPLE_TIME,
    )

    id: UUID
    event: str
    success: bool
    status_code: int | None
    response_time: int | None = Field(description="From accept to the end of the last action, in ms.")
    details: SkipValidation[dict[str, Any] | None]
    created_at: datetime


class LogPage(Page[ShownLog]):
    """Log rows, newest first."""


def page(work: Work, owner: UUID, callback_id: UUID, query: LogQuery) -> LogPage:
    """A callback's log, newest first: one row for each settled trigger and each notable event."""
    callback = callbacks.own(work.session, owner, callback_id)
    source = Past(owner, callback.id, before=query.cursor).logs(success=query.success, settled_only=False)
    keys = walk(work.session, [source], query.limit)
    mine = select(Log).where(Log.id.in_(keys.ids), Log.user_id == owner)
    rows = work.session.scalars(mine.order_by(Log.id.desc()))
    return LogPage(items=[_show(row) for row in rows], next_cursor=keys.next_cursor, partial=keys.is_partial)


def _show(log: Log) -> ShownLog:
    return ShownLog(
        id=log.id,
        event=log.event,
        success=log.success,
        status_code=log.status_code,
        response_time=log.response_time,
        details=log.details,
        created_at=log.created_at,
    )
