"""Sessions: who is logged in.

Invariant: a token is shown once and kept as its hash only. A wrong password and an unknown e-mail
look alike, in words and in time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field
from sqlalchemy import delete, func, select

from api.auth.actors import SESSION_PREFIX
from api.auth.passwords import matches
from api.resources.shapes import EXAMPLE_TIME, Given, Shown, example
from api.resources.users import MAX_EMAIL_CHARS, MAX_PASSWORD_CHARS
from api.work import Work
from shared.clock import database_clock
from shared.crypto import new_token, token_hash
from shared.errors import Unauthorized
from shared.models import User, UserSession

SESSION_DAYS = 7


class NewSession(Given):
    """Who logs in."""

    model_config = example(email="ada@example.com", password="correct horse battery staple")  # noqa: S106 - nobody's

    email: str = Field(max_length=MAX_EMAIL_CHARS)
    password: str = Field(max_length=MAX_PASSWORD_CHARS)


class CreatedSession(Shown):
    """The token of a new session, to be sent as `Authorization: Bearer`."""

    model_config = example(token="pms_9Xv2…", expiresAt=EXAMPLE_TIME)  # noqa: S106 - nobody's

    token: str
    expires_at: datetime


def create(work: Work, new: NewSession) -> CreatedSession:
    """Log in; raises Unauthorized, and Unavailable while too many others do."""
    known = select(User.id, User.password).where(User.is_active, User.deleted_at.is_(None))
    user = work.session.execute(known.where(func.lower(User.email) == new.email.strip().lower())).first()
    work.session.rollback()  # the connection goes back to its pool: what follows takes long
    is_right = matches(new.password, user.password if user else None)
    # what was read may have changed meanwhile
    if not is_right or user is None or work.session.execute(known.where(User.id == user.id)).first() != user:
        raise Unauthorized(
            "E-mail or password is wrong.", code="wrong_credentials", hint="Check both, and Caps Lock."
        )
    token = new_token(SESSION_PREFIX)
    expires_at = database_clock.now() + timedelta(days=SESSION_DAYS)
    work.session.add(UserSession(user_id=user.id, token_hash=token_hash(token), expires_at=expires_at))
    work.audit("logged_in", account=user.id)
    return CreatedSession(token=token, expires_at=expires_at)


def end(work: Work, owner: UUID, session_id: UUID) -> None:
    """End one session of the owner. One that has ended already stays so."""
    work.session.execute(
        delete(UserSession).where(UserSession.id == session_id, UserSession.user_id == owner)
    )
    work.audit("logged_out", session=session_id)


def end_all(work: Work, owner: UUID) -> None:
    """End all sessions of the owner."""
    work.session.execute(delete(UserSession).where(UserSession.user_id == owner))
    work.audit("sessions_ended", account=owner)
