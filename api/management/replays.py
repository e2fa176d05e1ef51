"""Doing it again, and not doing it: replays of triggers, retries of executions, replay jobs, cancelling.

A replay is a new trigger with `replayOf`; what it repeats stays as it was.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from flask_openapi import APIBlueprint
from pydantic import AwareDatetime, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.management.body import Body, IdPath, PageQuery
from api.management.callbacks import own_callback
from api.management.executions import own_execution
from api.management.paging import page
from api.management.triggers import own_trigger, show_trigger
from api.services import services
from shared.clock import database_clock
from shared.db import cursor_of
from shared.errors import Conflict, Invalid, NotFound
from shared.models import ActionExecution, ReplayJob, ReplayState
from shared.queues import FRESH
from shared.replay import replay
from shared.settle import cancel

MAX_OPEN_JOBS = 10  # of one user

replays = APIBlueprint("replays", __name__, url_prefix="/api/v1")
replays.before_request(authenticate)


class ReplayBody(Body):
    """from: `failed` leaves out what succeeded, `start` runs everything again."""

    from_: Literal["failed", "start"] = Field("failed", alias="from")


class NewReplayJob(Body):
    """Which triggers of a callback: with which status, received from `from` until before `to` (default: now).

    start: as in a single replay.
    """

    callback_id: UUID
    status: Literal["FAILED", "SUCCESS"] = "FAILED"
    from_: AwareDatetime | None = Field(None, alias="from")
    to: AwareDatetime | None = None
    start: Literal["failed", "start"] | None = None


@replays.post("/triggers/<uuid:id>/replay")
def replay_trigger(path: IdPath, body: ReplayBody) -> tuple[dict[str, Any], int]:
    """Run a settled trigger again, as a new trigger."""
    with Session(services().engine) as session, session.begin():
        trigger = own_trigger(session, path.id)
        if body.from_ == "failed" and trigger.status == "SUCCESS" and _has_executions(session, path.id):
            raise Conflict(
                "Every action of this trigger succeeded.",
                code="nothing_failed",
                hint='Replay it from the start: {"from": "start"}.',
            )
        new_id = _renew(session, trigger, body.from_)
        shown = show_trigger(own_trigger(session, new_id))
    services().publisher.offer(FRESH, [new_id])
    return shown, 202


@replays.post("/executions/<uuid:id>/retry")
def retry_execution(path: IdPath) -> tuple[dict[str, Any], int]:
    """Run one action of a settled trigger again, as a new trigger."""
    with Session(services().engine) as session, session.begin():
        execution = own_execution(session, path.id)[0]
        trigger = own_trigger(session, execution.trigger_id)
        new_id = _renew(session, trigger, "failed", execution.action_id)
        shown = show_trigger(own_trigger(session, new_id))
    services().publisher.offer(FRESH, [new_id])
    return shown, 202


def _has_executions(session: Session, trigger_id: UUID) -> bool:
    return bool(
        session.scalar(select(ActionExecution.id).where(ActionExecution.trigger_id == trigger_id).limit(1))
    )


def _renew(
    session: Session, trigger: Any, start: Literal["failed", "start"], only_action: UUID | None = None
) -> UUID:
    if not own_callback(session, trigger.callback_id).active_status:
        raise Conflict(
            "The callback is switched off.",
            code="callback_inactive",
            hint="Set its activeStatus to true first.",
        )
    made = replay(
        cursor_of(session),
        caller().user_id,
        [trigger.id],
        start,
        only_action=only_action,
        hint_in_seconds=services().settings.first_hint_seconds,
    )
    if trigger.id not in made and trigger.finished_at is not None:
        raise Conflict(
            "What would run again belongs to actions that were deleted.",
            code="nothing_to_run",
            hint='Replay the trigger from the start, with the actions as they are now: {"from": "start"}.',
        )
    if trigger.id not in made:
        raise Conflict(
            "This trigger has not settled yet.",
            code="trigger_in_motion",
            hint="Wait for its end, or cancel it first.",
        )
    return made[trigger.id]


@replays.post("/triggers/<uuid:id>/cancel")
def cancel_trigger(path: IdPath) -> dict[str, Any]:
    """End a waiting or running trigger. An attempt under way may still reach its receiver; nothing follows it."""
    with Session(services().engine) as session, session.begin():
        own_trigger(session, path.id)
        if not cancel(cursor_of(session), caller().user_id, path.id):
            raise Conflict(
                "This trigger has settled already.",
                code="trigger_settled",
                hint="There is nothing to cancel.",
            )
        shown = show_trigger(own_trigger(session, path.id))
    services().outcomes.settled([path.id])
    return shown


@replays.post("/replays")
def create_job(body: NewReplayJob) -> tuple[dict[str, Any], int]:
    """Replay many triggers of a callback in the background."""
    start = body.start or ("failed" if body.status == "FAILED" else "start")
    if (body.status, start) == ("SUCCESS", "failed"):
        raise Invalid("start: nothing has failed in a trigger that succeeded.", hint='Set start to "start".')
    now = database_clock.now()
    received_to = min(body.to or now, now)
    if body.from_ is not None and body.from_ >= received_to:
        raise Invalid("from: must lie before `to` and before now.", hint="Mend from or to.")
    with Session(services().engine) as session, session.begin():
        callback = own_callback(session, body.callback_id)
        job = ReplayJob(
            user_id=caller().user_id,
            callback_id=callback.id,
            status=body.status,
            start=start,
            received_from=body.from_,
            received_to=received_to,
        )
        _refuse_too_many(session)
        session.add(job)
        session.flush()
        session.refresh(job)
        return show_job(job), 202


def _refuse_too_many(session: Session) -> None:
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"replays of {caller().user_id}", 0)))
    )
    open_jobs = session.scalar(
        select(func.count()).where(
            ReplayJob.user_id == caller().user_id, ReplayJob.state == ReplayState.RUNNING
        )
    )
    if (open_jobs or 0) >= MAX_OPEN_JOBS:
        raise Conflict(
            f"{MAX_OPEN_JOBS} replay jobs of yours are still open.",
            code="too_many_replays",
            hint="Wait for one to end, or cancel one.",
        )


@replays.get("/replays")
def list_jobs(query: PageQuery) -> dict[str, Any]:
    """The caller's replay jobs, newest first."""
    statement = select(ReplayJob).where(ReplayJob.user_id == caller().user_id)
    if query.cursor is not None:
        statement = statement.where(ReplayJob.id < query.cursor)
    with Session(services().engine) as session:
        rows = session.scalars(statement.order_by(ReplayJob.id.desc()).limit(query.limit + 1)).all()
        return page(rows, query.limit, show_job)


@replays.get("/replays/<uuid:id>")
def get_job(path: IdPath) -> dict[str, Any]:
    """One replay job with its progress."""
    with Session(services().engine) as session:
        return show_job(_own_job(session, path.id))


@replays.post("/replays/<uuid:id>/cancel")
def cancel_job(path: IdPath) -> dict[str, Any]:
    """Stop a replay job. What it has replayed goes on; nothing more is added."""
    with Session(services().engine) as session, session.begin():
        job = _own_job(session, path.id, for_update=True)
        if job.state is not ReplayState.RUNNING:
            raise Conflict(
                "This job has ended already.", code="replay_ended", hint="There is nothing to cancel."
            )
        job.state = ReplayState.CANCELLED
        job.finished_at = func.now()
        session.flush()
        session.refresh(job)
        return show_job(job)


def _own_job(session: Session, job_id: UUID, *, for_update: bool = False) -> ReplayJob:
    statement = select(ReplayJob).where(ReplayJob.id == job_id, ReplayJob.user_id == caller().user_id)
    found = session.scalar(statement.with_for_update() if for_update else statement)
    if found is None:
        raise NotFound("You have no such replay job.")
    return found


def show_job(job: ReplayJob) -> dict[str, Any]:
    """A job as the API shows it. total: None until it was counted, or when there are too many to count."""
    return {
        "id": job.id,
        "callbackId": job.callback_id,
        "status": job.status,
        "from": job.received_from,
        "to": job.received_to,
        "start": job.start,
        "state": job.state,
        "total": job.total,
        "replayed": job.replayed,
        "skipped": job.skipped,
        "error": job.error,
        "createdAt": job.created_at,
        "finishedAt": job.finished_at,
    }
