"""/api/v1/users/me: the caller's own account."""

from __future__ import annotations

from api.management.face import Face
from api.resources import users
from api.resources.users import ShownUser
from api.work import Work

face = Face("users", "Your own account.")


@face.route("GET", "/users/me")
def get_me(work: Work) -> ShownUser:
    """Who is calling."""
    return users.find(work, work.owner)
