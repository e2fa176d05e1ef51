"""/api/v1/callbacks."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import callbacks
from api.resources.callbacks import CallbackChange, CallbackPage, CreatedCallback, NewCallback, ShownCallback
from api.resources.shapes import PageQuery
from api.work import Work

face = Face("callbacks", "What you define and the world triggers: a target URL and a public trigger URL.")


@face.route("GET", "/callbacks")
def list_callbacks(work: Work, query: PageQuery) -> CallbackPage:
    """The caller's callbacks, newest first."""
    return callbacks.page(work, work.owner, query)


@face.route("POST", "/callbacks", status=201, errors=(409,))
def create_callback(work: Work, body: NewCallback) -> CreatedCallback:
    """Create a callback and its primary action. The answer holds the signing secret, shown once."""
    return callbacks.create(work, work.owner, body)


@face.route("GET", "/callbacks/<uuid:id>")
def get_callback(work: Work, id: UUID) -> ShownCallback:
    """One callback."""
    return callbacks.find(work, work.owner, id)


@face.route("PATCH", "/callbacks/<uuid:id>", errors=(409,))
def change_callback(work: Work, id: UUID, body: CallbackChange) -> ShownCallback:
    """Change what is given; it holds for calls from a second later."""
    return callbacks.change(work, work.owner, id, body)


@face.route("DELETE", "/callbacks/<uuid:id>")
def delete_callback(work: Work, id: UUID) -> None:
    """Delete a callback with everything that belongs to it.

    Its trigger URL answers 404 within a second.
    """
    callbacks.delete(work, work.owner, id)
