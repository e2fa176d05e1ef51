"""Replay jobs: many triggers of a callback replayed in the background, by a duty of the workers.

Invariants:

- A user has at most MAX_OPEN_JOBS that have not ended.
- A job that has ended stays as it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.resources import callbacks
from api.resources.paging import newest
from api.resources.shapes import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    Given,
    Page,
    PageQuery,
    Shown,
    example,
)
from api.work import Work
from shared.clock import database_clock
from shared.errors import Conflict, Invalid, NotFound
from shared.models import ExecutionStatus, ReplayJob, ReplayStart, ReplayState

# Of one user.
MAX_OPEN_JOBS = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# nothing was received before it; and what PostgreSQL takes for a year before Christ it does not
# give back
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: max(moment, EPOCH))]


class NewReplayJob(Given):
    """Which triggers of a callback: with which status, received from `from` until before `to`
    (default: now).

    start: as in a single replay.
    """

    model_config = example(callbackId=EXAMPLE_ID, status="FAILED", from_="2026-01-01T00:00:00Z")

    callback_id: UUID
    status: Literal["FAILED", "SUCCESS"] = "FAILED"
    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None
    start: Literal["failed", "start"] | None = None


class ShownReplayJob(Shown):
    """A job and its progress."""

    model_config = example(
        id=EXAMPLE_ID,
        callbackId=EXAMPLE_OTHER_ID,
        status="FAILED",
        from_="2026-01-01T00:00:00Z",
        to=EXAMPLE_TIME,
        start="failed",
        state="RUNNING",
        total=1200,
        replayed=50,
        skipped=0,
        error=None,
        createdAt=EXAMPLE_TIME,
        finishedAt=None,
    )

    id: UUID
    callback_id: UUID
    status: ExecutionStatus
    from_: datetime | None = Field(alias="from")
    to: datetime
    start: ReplayStart
    state: ReplayState
    total: int | None = Field(description="null until it was counted, or when there are too many to count.")
    replayed: int
    skipped: int
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class ReplayJobPage(Page[ShownReplayJob]):
    """Replay jobs, newest first."""


def create(work: Work, owner: UUID, new: NewReplayJob) -> ShownReplayJob:
    """Begin to replay many triggers of a callback.

    Conflict: too many jobs of the owner are open.
    """
    start = new.start or ("failed" if new.status == "FAILED" else "start")
    if (new.status, start) == ("SUCCESS", "failed"):
        raise Invalid("start: nothing has failed in a trigger that succeeded.", hint='Set start to "start".')
    now = database_clock.now()
    received_to = min(new.to or now, now)
    if new.from_ is not None and new.from_ >= received_to:
        raise Invalid("from: must lie before `to` and before now.", hint="Fix from or to.")
    callback = callbacks.own(work.session, owner, new.callback_id)
    _refuse_too_many(work.session, owner)
    job = ReplayJob(
        user_id=owner,
        callback_id=callback.id,
        status=new.status,
        start=start,
        received_from=new.from_,
        received_to=received_to,
    )
    shown = _show(work.fresh(job))
    work.audit("replay_job_created", job=job.id, callback=callback.id)
    return shown


def find(work: Work, owner: UUID, job_id: UUID) -> ShownReplayJob:
    """One job with its progress; raises NotFound."""
    return _show(_own(work.session, owner, job_id))


def page(work: Work, owner: UUID, query: PageQuery) -> ReplayJobPage:
    """The owner's jobs, newest first."""
    statement = select(ReplayJob).where(ReplayJob.user_id == owner)
    if query.cursor is not None:
        statement = statement.where(ReplayJob.id < query.cursor)
    found = work.session.scalars(statement.order_by(ReplayJob.id.desc()).limit(query.limit + 1)).all()
    rows, next_cursor = newest(found, query.limit)
    return ReplayJobPage(items=[_show(row) for row in rows], next_cursor=next_cursor)


def cancel(work: Work, owner: UUID, job_id: UUID) -> ShownReplayJob:
    """Stop a job. What it has replayed goes on; nothing more is added. Conflict: it has ended."""
    job = _own(work.session, owner, job_id, for_update=True)
    if job.state is not ReplayState.RUNNING:
        raise Conflict("This job has ended already.", code="replay_ended", hint="There is nothing to cancel.")
    job.state = ReplayState.CANCELLED
    job.finished_at = func.now()
    work.audit("replay_job_cancelled", job=job.id)
    return _show(work.fresh(job))


def _refuse_too_many(session: Session, owner: UUID) -> None:
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"replays of {owner}", 0))))
    open_jobs = session.scalar(
        select(func.count()).where(ReplayJob.user_id == owner, ReplayJob.state == ReplayState.RUNNING)
    )
    if (open_jobs or 0) >= MAX_OPEN_JOBS:
        raise Conflict(
            f"{MAX_OPEN_JOBS} replay jobs of yours are still open.",
            code="too_many_replays",
            hint="Wait for one to end, or cancel one.",
        )


def _own(session: Session, owner: UUID, job_id: UUID, *, for_update: bool = False) -> ReplayJob:
    statement = select(ReplayJob).where(ReplayJob.id == job_id, ReplayJob.user_id == owner)
    found = session.scalar(statement.with_for_update() if for_update else statement)
    if found is None:
        raise NotFound("You have no such replay job.")
    return found


def _show(job: ReplayJob) -> ShownReplayJob:
    return ShownReplayJob(
        id=job.id,
        callback_id=job.callback_id,
        status=job.status,
        from_=job.received_from,
        to=job.received_to,
        start=job.start,
        state=job.state,
        total=job.total,
        replayed=job.replayed,
        skipped=job.skipped,
        error=job.error,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )
