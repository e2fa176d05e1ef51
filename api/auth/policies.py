"""Who may use an endpoint: one policy for each, asked in one place before any view.

A session may do what its user's role grants. An API key may do what is in its permissions *and*
what its owner's role grants, judged at each call: an owner who is no ADMIN any more has no key with
`admin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from api.work import Actor
from shared.errors import Forbidden, Unauthorized
from shared.models import UserRole

Scope = Literal["read", "write", "admin"]

_EVERYBODY: frozenset[str] = frozenset({"read", "write"})
_GRANTED: dict[UserRole, frozenset[str]] = dict.fromkeys(UserRole, _EVERYBODY) | {
    UserRole.ADMIN: _EVERYBODY | {"admin"}
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call an endpoint.

    scope: what the token must allow; None lets anybody in. role: what its user must be.
    session_only: no API keys.
    """

    scope: Scope | None
    role: UserRole | None = None
    session_only: bool = False

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody is asked for."""
        return self.scope is None


ANONYMOUS = Policy(None)
READ = Policy("read")
WRITE = Policy("write")
SESSION = Policy("write", session_only=True)
ADMIN = Policy("admin", role=UserRole.ADMIN)


def permissions_of(role: UserRole, allowed: frozenset[str] | None = None) -> frozenset[str]:
    """What a user of this role may do: with a session, or with a key that allows only so much."""
    granted = _GRANTED[role]
    return granted if allowed is None else granted & allowed


def admit(policy: Policy, actor: Actor) -> None:
    """Let this actor in; raises Unauthorized or Forbidden."""
    if policy.scope is None:
        return
    if actor.user_id is None:
        raise Unauthorized("Nobody is known to be calling.")
    if policy.session_only and actor.through != "session":
        raise Forbidden("This needs a session; an API key is not enough.", hint="Log in, and use that token.")
    if policy.role is not None and actor.role is not policy.role:
        raise Forbidden(f"This needs the role {policy.role.value}.", hint="Ask an operator.")
    if policy.scope not in actor.permissions:
        token = "API key" if actor.through == "key" else "session"
        raise Forbidden(f"This {token} has no «{policy.scope}» permission.")
