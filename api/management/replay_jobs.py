"""/api/v1/replays."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import replay_jobs
from api.resources.replay_jobs import NewReplayJob, ReplayJobPage, ShownReplayJob
from api.resources.shapes import PageQuery
from api.work import Work

face = Face("replay jobs", "Many triggers of a callback replayed in the background.")


@face.route("POST", "/replays", status=202, errors=(404, 409))
def create_replay_job(work: Work, body: NewReplayJob) -> ShownReplayJob:
    """Replay many triggers of a callback in the background."""
    return replay_jobs.create(work, work.owner, body)


@face.route("GET", "/replays")
def list_replay_jobs(work: Work, query: PageQuery) -> ReplayJobPage:
    """The caller's replay jobs, newest first."""
    return replay_jobs.page(work, work.owner, query)


@face.route("GET", "/replays/<uuid:id>")
def get_replay_job(work: Work, id: UUID) -> ShownReplayJob:
    """One replay job with its progress."""
    return replay_jobs.find(work, work.owner, id)


@face.route("POST", "/replays/<uuid:id>/cancel", errors=(409,))
def cancel_replay_job(work: Work, id: UUID) -> ShownReplayJob:
    """Stop a replay job. What it has replayed goes on; nothing more is added."""
    return replay_jobs.cancel(work, work.owner, id)
