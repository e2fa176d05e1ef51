"""Logging in and out: POST /api/v1/auth/login, POST /api/v1/auth/logout."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask_openapi import APIBlueprint
from pydantic import Field
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from api.auth.caller import SESSION_PREFIX, bearer_token
from api.auth.passwords import matches
from api.management.body import Body
from api.services import services
from shared.clock import database_clock
from shared.crypto import new_token, token_hash
from shared.errors import Unauthorized
from shared.models import User, UserSession

SESSION_DAYS = 7

auth = APIBlueprint("auth", __name__, url_prefix="/api/v1/auth")


class Login(Body):
    """Who logs in."""

    email: str = Field(max_length=320)
    password: str = Field(max_length=1_000)


@auth.post("/login")
def login(body: Login) -> tuple[dict[str, Any], int]:
    """Exchange e-mail and password for a session token: {"token","expiresAt"}."""
    with Session(services().engine) as session, session.begin():
        user = session.scalar(
            select(User).where(
                func.lower(User.email) == body.email.strip().lower(),
                User.is_active,
                User.deleted_at.is_(None),
            )
        )
        if not matches(body.password, user.password if user else None) or user is None:
            raise Unauthorized(
                "E-mail or password is wrong.", code="wrong_credentials", hint="Check both, and Caps Lock."
            )
        token = new_token(SESSION_PREFIX)
        expires_at = database_clock.now() + timedelta(days=SESSION_DAYS)
        session.add(UserSession(user_id=user.id, token_hash=token_hash(token), expires_at=expires_at))
    return {"token": token, "expiresAt": expires_at}, 200


@auth.post("/logout")
def logout() -> tuple[str, int]:
    """End the session whose token is sent."""
    with Session(services().engine) as session, session.begin():
        session.execute(delete(UserSession).where(UserSession.token_hash == token_hash(bearer_token())))
    return "", 204
