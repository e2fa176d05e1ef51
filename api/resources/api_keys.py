"""API keys: what programs present instead of a session token.

Invariant: a key is shown once and kept as its hash only. It may do what is in its permissions and
what its owner's role grants (api/auth/policies.py).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, Field

from api.auth.actors import KEY_PREFIX
from api.auth.policies import Scope
from api.resources.shapes import Given, Name, Shown, shown_once
from api.work import Work
from shared.crypto import new_token, token_hash
from shared.models import ApiKey

# By which a user knows a key again.
PREFIX_CHARS = 12


class NewApiKey(Given):
    """A key to be, and what it may do."""

    name: Name
    permissions: list[Scope] = Field(min_length=1)
    expires_at: AwareDatetime | None = None


class CreatedApiKey(Shown):
    """A new key."""

    id: UUID
    name: str
    prefix: str
    permissions: list[Scope]
    expires_at: datetime | None
    created_at: datetime
    key: str | None = shown_once("The key itself, shown only in the first answer.")


def create(work: Work, owner: UUID, new: NewApiKey) -> CreatedApiKey:
    """Make a key for the owner."""
    key = new_token(KEY_PREFIX)
    made = ApiKey(
        name=new.name,
        key=token_hash(key),
        prefix=key[:PREFIX_CHARS],
        user_id=owner,
        permissions=list(new.permissions),
        expires_at=new.expires_at,
    )
    row = work.fresh(made)
    work.audit("api_key_created", key=row.id)
    return CreatedApiKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        permissions=new.permissions,
        expires_at=row.expires_at,
        created_at=row.created_at,
        key=key,
    )
