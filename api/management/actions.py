"""/api/v1/callbacks/{id}/actions and /api/v1/actions/{id}."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import actions
from api.resources.actions import ActionChange, ActionPage, NewAction, ShownAction
from api.work import Work

face = Face("actions", "The outgoing steps of a callback, in order or in parallel.")


@face.route("GET", "/callbacks/<uuid:id>/actions")
def list_actions(work: Work, id: UUID) -> ActionPage:
    """A callback's actions in the order in which they run."""
    return actions.page(work, work.owner, id)


@face.route("POST", "/callbacks/<uuid:id>/actions", status=201, errors=(409,))
def create_action(work: Work, id: UUID, body: NewAction) -> ShownAction:
    """Add an action to a callback."""
    return actions.create(work, work.owner, id, body)


@face.route("GET", "/actions/<uuid:id>")
def get_action(work: Work, id: UUID) -> ShownAction:
    """One action."""
    return actions.find(work, work.owner, id)


@face.route("PATCH", "/actions/<uuid:id>")
def change_action(work: Work, id: UUID, body: ActionChange) -> ShownAction:
    """Change what is given; runs under way keep their steps and take the new config."""
    return actions.change(work, work.owner, id, body)


@face.route("DELETE", "/actions/<uuid:id>")
def delete_action(work: Work, id: UUID) -> None:
    """Delete an action with its executions."""
    actions.delete(work, work.owner, id)
