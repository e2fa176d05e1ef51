"""What a new installation gets once: the first admin with its plan, and the demo callback.

Invariants:

- Everything is made at most once, and nothing that a user changed later is changed back.
- Only the demo's URLs follow its receiver when that had to take another port.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.resources import actions, api_keys, callbacks, users
from api.resources.actions import ActionChange, NewAction
from api.resources.api_keys import NewApiKey
from api.resources.callbacks import NewCallback
from api.resources.users import NewUser
from api.work import Work
from shared.errors import NotFound
from shared.models import ActionType, RateLimit, Subscription, SubscriptionPlan, UserRole

ADMIN_PLAN = "Admin"
DEMO_NAME = "Demo"
DEMO_TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True)
class Admin:
    """The first admin. password: only when it was generated just now."""

    user_id: UUID
    email: str
    password: str | None


def ensure_admin(work: Work, email: str, password: str | None) -> Admin:
    """Find the first admin or make it, with a plan whose rate limits are switched off."""
    admin = users.find_first_admin(work)
    if admin is not None:
        return Admin(admin.id, admin.email, None)
    chosen = password or secrets.token_urlsafe(15)
    admin = users.create(
        work, NewUser(email=email, password=chosen, role=UserRole.ADMIN, display_name="Admin")
    )
    work.session.add(Subscription(user_id=admin.id, plan_id=_admin_plan(work.session).id))
    return Admin(admin.id, email, chosen if password is None else None)


def _admin_plan(session: Session) -> SubscriptionPlan:
    plan = session.scalar(select(SubscriptionPlan).where(SubscriptionPlan.name == ADMIN_PLAN))
    if plan is None:
        plan = SubscriptionPlan(
            name=ADMIN_PLAN,
            description="For the operators of this installation.",
            price=Decimal(0),
            max_triggers=2**31 - 1,
            max_timeout_duration=300,
            features=[],
            role=UserRole.ADMIN,
        )
        session.add(plan)
        session.flush()
        session.add(RateLimit(plan_id=plan.id, is_active=False))
    return plan


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo callback. api_key: a read-only key to watch it."""

    callback_id: UUID
    trigger_url: str | None
    api_key: str | None


def ensure_demo(work: Work, owner: UUID, receiver_url: str, known: dict[str, Any]) -> Demo | None:
    """Make the demo callback once, or point an existing one at its receiver.

    None: the user deleted it.
    """
    if "callbackId" not in known:
        return _make_demo(work, owner, receiver_url)
    callback_id = UUID(known["callbackId"])
    try:
        callback = callbacks.find(work, owner, callback_id)
    except NotFound:
        return None
    old_url = known.get("receiverUrl", receiver_url)
    if old_url != receiver_url:
        callbacks.move(work, owner, callback.id, old_url, receiver_url)
        actions.move(work, owner, callback.id, old_url, receiver_url)
    return Demo(callback_id, callback.trigger_url, known.get("apiKey"))


def _make_demo(work: Work, owner: UUID, receiver_url: str) -> Demo:
    """A parallel pair, then an ordered tail of two."""
    callback = callbacks.create(
        work,
        owner,
        NewCallback(
            name=DEMO_NAME,
            callback_url=f"{receiver_url}/order",
            tags=["demo"],
            timeout_duration=min(DEMO_TIMEOUT_MS, work.settings.max_timeout_ms),
        ),
    )
    (primary,) = actions.page(work, owner, callback.id).items
    actions.change(work, owner, primary.id, ActionChange(parallel=True))
    steps: tuple[tuple[str, ActionType, dict[str, Any], bool], ...] = (
        ("audit", ActionType.HTTP_POST, {"url": f"{receiver_url}/audit"}, True),
        ("confirm", ActionType.HTTP_POST, {"url": f"{receiver_url}/confirm", "body": {"done": True}}, False),
        ("keep", ActionType.STORE, {"key": "last-order"}, False),
    )
    for name, kind, config, parallel in steps:
        actions.create(
            work, owner, callback.id, NewAction(name=name, type=kind, config=config, parallel=parallel)
        )
    key = api_keys.create(work, owner, NewApiKey(name="demo (read only)", permissions=["read"]))
    return Demo(callback.id, callback.trigger_url, key.key)
