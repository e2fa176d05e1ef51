"""Who may use an endpoint, for each kind of token."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from api.auth.policies import ADMIN, ANONYMOUS, READ, SESSION, WRITE, Policy, admit, permissions_of
from api.work import Actor
from shared.errors import Forbidden, PointsmanError, Unauthorized
from shared.models import UserRole

EVERYTHING = frozenset({"read", "write", "admin"})


def actor(role: UserRole, through: Any = "session", allowed: frozenset[str] | None = None) -> Actor:
    return Actor(through, UUID(int=1), role, permissions_of(role, allowed))


def outcome(policy: Policy, who: Actor) -> type[PointsmanError] | None:
    try:
        admit(policy, who)
    except PointsmanError as error:
        return type(error)
    return None


@pytest.mark.parametrize("policy", [READ, WRITE, SESSION, ADMIN])
def test_nobody_gets_in_but_where_anybody_may(policy: Policy) -> None:
    nobody = Actor("nobody")
    assert outcome(policy, nobody) is Unauthorized
    assert outcome(ANONYMOUS, nobody) is None


@pytest.mark.parametrize("role", [UserRole.FREE, UserRole.PRO, UserRole.PREMIUM])
def test_only_an_admins_session_has_admin(role: UserRole) -> None:
    """Fails when every session has `admin`, whatever its user's role."""
    assert outcome(ADMIN, actor(role)) is Forbidden
    assert outcome(ADMIN, actor(UserRole.ADMIN)) is None
    assert [outcome(policy, actor(role)) for policy in (READ, WRITE, SESSION)] == [None, None, None]


def test_a_key_may_do_what_it_is_for_and_no_more_than_its_owner() -> None:
    """Fails when a key keeps `admin` after its owner lost the role."""
    assert outcome(ADMIN, actor(UserRole.FREE, "key", EVERYTHING)) is Forbidden
    assert outcome(ADMIN, actor(UserRole.ADMIN, "key", EVERYTHING)) is None
    assert outcome(ADMIN, actor(UserRole.ADMIN, "key", frozenset({"read", "write"}))) is Forbidden
    assert outcome(WRITE, actor(UserRole.ADMIN, "key", frozenset({"read"}))) is Forbidden
    assert outcome(READ, actor(UserRole.ADMIN, "key", frozenset({"write"}))) is Forbidden
    assert outcome(READ, actor(UserRole.FREE, "key", frozenset({"read"}))) is None


def test_what_needs_a_session_refuses_every_key() -> None:
    assert outcome(SESSION, actor(UserRole.ADMIN, "key", EVERYTHING)) is Forbidden
