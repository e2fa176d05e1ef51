"""/api/v1/callbacks/{id}/logs."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import logs
from api.resources.logs import LogPage, LogQuery
from api.work import Work

face = Face("logs", "How triggers ended, and the notable events of a callback.")


@face.route("GET", "/callbacks/<uuid:id>/logs")
def list_logs(work: Work, id: UUID, query: LogQuery) -> LogPage:
    """A callback's log, newest first: one row for each settled trigger and each notable event."""
    return logs.page(work, work.owner, id, query)
