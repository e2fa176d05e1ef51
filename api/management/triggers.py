"""/api/v1/triggers."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import triggers
from api.resources.content import Content
from api.resources.shapes import EachOf
from api.resources.triggers import ShownTrigger, TriggerDetail, TriggerExport, TriggerPage, TriggerQuery
from api.work import Work

face = Face("triggers", "Recorded calls of trigger URLs, and what became of them.")


@face.route("GET", "/triggers")
def list_triggers(work: Work, query: TriggerQuery) -> TriggerPage:
    """The caller's triggers, newest first."""
    return triggers.page(work, work.owner, query)


@face.route("GET", "/triggers.ndjson", errors=(429,))
def export_triggers(work: Work, query: TriggerExport) -> EachOf[ShownTrigger]:  # noqa: ARG001
    """All the caller's triggers, or those that the filters fit, newest first, one to a line.

    What comes after it was begun is not in it. An answer that cannot be given to its end is cut
    off, and clients say so. Ask again with the `id` of the last whole line as `cursor`.
    """
    return triggers.each(query)


@face.route("GET", "/triggers/<uuid:id>")
def get_trigger(work: Work, id: UUID) -> TriggerDetail:
    """One trigger with the recorded request and its executions in the order of their steps."""
    return triggers.find(work, work.owner, id)


@face.route("GET", "/triggers/<uuid:id>/body")
def get_trigger_body(work: Work, id: UUID) -> Content:
    """The recorded body, byte for byte as it came."""
    return triggers.body(work, work.owner, id)


@face.route("POST", "/triggers/<uuid:id>/cancel", errors=(409,))
def cancel_trigger(work: Work, id: UUID) -> ShownTrigger:
    """End a waiting or running trigger.

    An attempt under way may still reach its receiver; nothing follows it.
    """
    return triggers.cancel(work, work.owner, id)
