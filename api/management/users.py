"""The caller's own account: GET /api/v1/users/me."""

from __future__ import annotations

from typing import Any

from flask_openapi import APIBlueprint
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.services import services
from shared.models import User

users = APIBlueprint("users", __name__, url_prefix="/api/v1/users")
users.before_request(authenticate)


@users.get("/me")
def me() -> dict[str, Any]:
    """Who is calling."""
    with Session(services().engine) as session:
        user = session.scalars(select(User).where(User.id == caller().user_id)).one()
        return {
            "id": user.id,
            "email": user.email,
            "displayName": user.display_name,
            "role": user.role,
            "isActive": user.is_active,
            "totpEnabled": user.secret is not None,
            "createdAt": user.created_at,
        }
