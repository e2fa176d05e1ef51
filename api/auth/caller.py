"""Who is calling the management API: a session token or an API key in `Authorization: Bearer`.

Tokens are looked up by their SHA-256. GET needs `read`, everything else `write`; a session has both. A
disabled or deleted user has neither, from the next request on.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from flask import g, request
from sqlalchemy import Engine, text

from api.services import services
from shared.crypto import token_hash
from shared.errors import Forbidden, Unauthorized

SESSION_PREFIX = "pms_"
KEY_PREFIX = "pm_live_"

_BY_SESSION = text("""
SELECT u.id, u.email, u.role, ARRAY['read', 'write', 'admin'] FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.token_hash = :hash AND s.expires_at > now() AND u.is_active AND u.deleted_at IS NULL
""")
_BY_KEY = text("""
SELECT u.id, u.email, u.role, k.permissions FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.key = :hash AND (k.expires_at IS NULL OR k.expires_at > now()) AND u.is_active AND u.deleted_at IS NULL
""")


@dataclass(frozen=True, slots=True)
class Caller:
    """The user on whose behalf a request is made, and what this token may do."""

    user_id: UUID
    email: str
    role: str
    permissions: frozenset[str]


def authenticate() -> None:
    """Set g.caller for a request of the management API, or refuse it. A before_request hook."""
    caller = find_caller(services().engine, bearer_token())
    needed = "read" if request.method in ("GET", "HEAD", "OPTIONS") else "write"
    if needed not in caller.permissions:
        raise Forbidden(f"This API key has no «{needed}» permission.")
    g.caller = caller


def caller() -> Caller:
    """The caller of the current request."""
    found: Caller = g.caller
    return found


def bearer_token() -> str:
    """The token of the current request; raises Unauthorized."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("There is no bearer token.")
    return token.strip()


def find_caller(engine: Engine, token: str) -> Caller:
    """The caller with this token; raises Unauthorized."""
    statement = _BY_KEY if token.startswith(KEY_PREFIX) else _BY_SESSION
    with engine.connect() as connection:
        row = connection.execute(statement, {"hash": token_hash(token)}).first()
    if row is None:
        raise Unauthorized("This token is unknown, expired or was ended.")
    return Caller(UUID(str(row[0])), row[1], str(row[2]), frozenset(row[3]))
