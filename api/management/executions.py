"""/api/v1/executions."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import executions
from api.resources.executions import ExecutionPage, ExecutionQuery, ShownExecution
from api.work import Work

face = Face("executions", "One action for one trigger, with its attempts.")


@face.route("GET", "/executions")
def list_executions(work: Work, query: ExecutionQuery) -> ExecutionPage:
    """The caller's executions, newest first."""
    return executions.page(work, work.owner, query)


@face.route("GET", "/executions/<uuid:id>")
def get_execution(work: Work, id: UUID) -> ShownExecution:
    """One execution."""
    return executions.find(work, work.owner, id)
