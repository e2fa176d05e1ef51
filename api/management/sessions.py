"""/api/v1/auth: logging in and out."""

from __future__ import annotations

from api.auth.policies import ANONYMOUS, SESSION
from api.management.face import Face
from api.resources import sessions
from api.resources.sessions import CreatedSession, NewSession
from api.work import Work
from shared.errors import Unauthorized

face = Face("sessions", "Logging in and out.")


@face.route("POST", "/auth/login", ANONYMOUS, errors=(401,))
def log_in(work: Work, body: NewSession) -> CreatedSession:
    """Exchange e-mail and password for a session token."""
    return sessions.create(work, body)


@face.route("POST", "/auth/logout", SESSION)
def log_out(work: Work) -> None:
    """End the session whose token is sent."""
    if work.actor.through_id is None:
        raise Unauthorized("There is no session.")
    sessions.end(work, work.owner, work.actor.through_id)
