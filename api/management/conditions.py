"""/api/v1/conditions/try."""

from __future__ import annotations

from api.management.face import Face
from api.resources import conditions
from api.resources.conditions import NewTry, ShownTry
from api.work import Work

face = Face("conditions", "What a condition says of the last triggers, before an action has it.")


@face.route("POST", "/conditions/try", errors=(404,))
def try_condition(work: Work, body: NewTry) -> ShownTry:
    """Say of the last 20 triggers of a callback for which of them a condition holds."""
    return conditions.attempt(work, work.owner, body)
