"""/api/v1/triggers/{id}/replay and /api/v1/executions/{id}/retry."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import replays
from api.resources.replays import NewReplay
from api.resources.triggers import ShownTrigger
from api.work import Work

face = Face("replays", "Doing it again: one trigger, or one action of it.")


@face.route("POST", "/triggers/<uuid:id>/replay", status=202, errors=(409,))
def replay_trigger(work: Work, id: UUID, body: NewReplay) -> ShownTrigger:
    """Run a settled trigger again, as a new trigger."""
    return replays.create(work, work.owner, id, body)


@face.route("POST", "/executions/<uuid:id>/retry", status=202, errors=(409,))
def retry_execution(work: Work, id: UUID) -> ShownTrigger:
    """Run one action of a settled trigger again, as a new trigger."""
    return replays.retry(work, work.owner, id)
