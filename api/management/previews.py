"""/api/v1/actions/preview."""

from __future__ import annotations

from api.management.face import Face
from api.resources import previews
from api.resources.previews import NewPreview, ShownPreview
from api.work import Work

face = Face("previews", "What an action would do with a call, without doing it.")


@face.route("POST", "/actions/preview", errors=(404,))
def preview_action(work: Work, body: NewPreview) -> ShownPreview:
    """Show what an action would send for a past trigger or a sample, secrets masked."""
    return previews.create(work, work.owner, body)
