"""Who is calling: the owner of the session token or API key in `Authorization: Bearer`.

Tokens are looked up by their SHA-256. A disabled or deleted user is nobody, from the next request
on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from api.auth.policies import permissions_of
from api.work import Actor
from shared.crypto import token_hash
from shared.errors import Unauthorized
from shared.models import UserRole

SESSION_PREFIX = "pms_"
KEY_PREFIX = "pm_live_"

_BY_SESSION = text("""
SELECT s.id, u.id AS user_id, u.role::text AS role FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.token_hash = :hash AND s.expires_at > now() AND u.is_active AND u.deleted_at IS NULL
""")
_BY_KEY = text("""
SELECT k.id, u.id AS user_id, u.role::text AS role, k.permissions FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.key = :hash AND (k.expires_at IS NULL OR k.expires_at > now()) AND u.is_active AND u.deleted_at IS NULL
""")


@dataclass(frozen=True, slots=True)
class Request:
    """What a request says of its caller.

    authorization: that header. address: where it came from.
    """

    authorization: str
    address: str | None
    request_id: str | None


def bearer_token(authorization: str) -> str:
    """The token in the header `Authorization`; raises Unauthorized."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("There is no bearer token.")
    return token.strip()


def nobody(request: Request) -> Actor:
    """Whoever calls a route that asks for no token."""
    return Actor("nobody", address=request.address, request_id=request.request_id)


def identify(session: Session, request: Request) -> Actor:
    """The one whose token a request bears; raises Unauthorized."""
    token = bearer_token(request.authorization)
    is_key = token.startswith(KEY_PREFIX)
    row = session.execute(_BY_KEY if is_key else _BY_SESSION, {"hash": token_hash(token)}).first()
    if row is None:
        raise Unauthorized("This token is unknown, expired or was ended.")
    role = UserRole(row.role)
    return Actor(
        through="key" if is_key else "session",
        user_id=row.user_id,
        role=role,
        permissions=permissions_of(role, frozenset(row.permissions) if is_key else None),
        through_id=row.id,
        address=request.address,
        request_id=request.request_id,
    )
