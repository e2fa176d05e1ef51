"""Users: accounts, each the owner of everything else.

Invariants:

- An e-mail address belongs to one user, whatever its case.
- A password is kept as its hash only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import IntegrityError

from api.auth.passwords import hash_password
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_TIME, Given, Shown, example
from api.work import Work
from shared.errors import Conflict, NotFound
from shared.models import User, UserRole

MAX_EMAIL_CHARS = 320
MAX_PASSWORD_CHARS = 1_000


class NewUser(Given):
    """An account to be."""

    email: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_EMAIL_CHARS)]
    password: str = Field(min_length=1, max_length=MAX_PASSWORD_CHARS)
    display_name: str | None = None
    role: UserRole = UserRole.FREE


class ShownUser(Shown):
    """An account."""

    model_config = example(
        id=EXAMPLE_ID,
        email="ada@example.com",
        displayName="Ada",
        role="FREE",
        isActive=True,
        totpEnabled=False,
        createdAt=EXAMPLE_TIME,
    )

    id: UUID
    email: str
    display_name: str | None
    role: UserRole
    is_active: bool
    totp_enabled: bool
    created_at: datetime


def create(work: Work, new: NewUser) -> ShownUser:
    """Create an account. Conflict: the e-mail address belongs to one already."""
    user = User(
        email=new.email,
        password=hash_password(new.password),
        role=new.role,
        display_name=new.display_name,
    )
    try:
        work.fresh(user)
    except IntegrityError as error:
        if "email" not in str(error.orig):
            raise
        raise Conflict(
            "This e-mail address has an account.", code="email_taken", hint="Use another address, or log in."
        ) from None
    work.audit("user_created", account=user.id, role=user.role.value)
    return _show(user)


def find(work: Work, user_id: UUID) -> ShownUser:
    """One account; raises NotFound."""
    return _show(_live(work, User.id == user_id))


def find_by_email(work: Work, email: str) -> ShownUser:
    """The account with this e-mail address, in any case; raises NotFound."""
    return _show(_live(work, func.lower(User.email) == email.strip().lower()))


def find_first_admin(work: Work) -> ShownUser | None:
    """The oldest account that is an ADMIN, None when there is none."""
    found = work.session.scalar(
        select(User).where(User.role == UserRole.ADMIN, User.deleted_at.is_(None)).order_by(User.id).limit(1)
    )
    return None if found is None else _show(found)


def set_password(work: Work, user_id: UUID, password: str) -> None:
    """Give an account a new password. Its sessions go on: end them where that is not wanted."""
    hashed = hash_password(password)  # before anything is read: it takes long
    _live(work, User.id == user_id).password = hashed
    work.audit("password_set", account=user_id)


def _live(work: Work, condition: ColumnElement[bool]) -> User:
    found = work.session.scalar(select(User).where(condition, User.deleted_at.is_(None)))
    if found is None:
        raise NotFound("There is no such account.", hint="Give the e-mail of an existing account.")
    return found


def _show(user: User) -> ShownUser:
    return ShownUser(
        id=user.id,
        email=user.email,
        display_name=user.display_name,
        role=user.role,
        is_active=user.is_active,
        totp_enabled=user.secret is not None,
        created_at=user.created_at,
    )
