"""The management API: one thin face a noun, parse → call → answer."""

from __future__ import annotations

from api.management import (
    actions,
    callbacks,
    conditions,
    credentials,
    executions,
    logs,
    previews,
    replay_jobs,
    replays,
    rotations,
    sessions,
    stored_items,
    triggers,
    users,
)
from api.management.face import Face

FACES: tuple[Face, ...] = tuple(
    module.face
    for module in (
        sessions,
        users,
        callbacks,
        rotations,
        actions,
        conditions,
        previews,
        credentials,
        triggers,
        executions,
        logs,
        replays,
        replay_jobs,
        stored_items,
    )
)
"""In the order in which the API's description lists them."""
