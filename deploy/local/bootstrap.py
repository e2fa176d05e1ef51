"""What a new installation gets once: the first admin with its plan, and the demo callback.

Invariant: everything is made at most once, and nothing that a user changed later is changed back; only the
demo's URLs follow its receiver when that had to take another port.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.auth.caller import KEY_PREFIX
from api.auth.passwords import hash_password
from shared.crypto import SecretBox, new_signing_secret, new_token, token_hash
from shared.models import (
    Action,
    ActionType,
    ApiKey,
    Callback,
    RateLimit,
    Subscription,
    SubscriptionPlan,
    User,
    UserRole,
)

ADMIN_PLAN = "Admin"
DEMO_NAME = "Demo"


@dataclass(frozen=True, slots=True)
class Admin:
    """The first admin. password: only when it was generated just now."""

    user_id: UUID
    email: str
    password: str | None


def ensure_admin(session: Session, email: str, password: str | None) -> Admin:
    """Find the first admin or make it, with a plan whose rate limits are switched off."""
    admin = session.scalar(
        select(User).where(User.role == UserRole.ADMIN, User.deleted_at.is_(None)).order_by(User.id).limit(1)
    )
    if admin is not None:
        return Admin(admin.id, admin.email, None)
    chosen = password or secrets.token_urlsafe(15)
    user = User(email=email, password=hash_password(chosen), role=UserRole.ADMIN, display_name="Admin")
    session.add(user)
    session.flush()
    session.add(Subscription(user_id=user.id, plan_id=_admin_plan(session).id))
    return Admin(user.id, email, chosen if password is None else None)


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
    """The demo callback. api_key: a read-only key to watch it, only when it was made just now."""

    callback_id: UUID
    trigger_token: str | None
    api_key: str | None


def ensure_demo(
    session: Session, box: SecretBox, user_id: UUID, receiver_url: str, known: dict[str, Any]
) -> Demo | None:
    """Make the demo callback once, or point an existing one at its receiver. None: the user deleted it."""
    if "callbackId" not in known:
        return _make_demo(session, box, user_id, receiver_url)
    callback = session.get(Callback, UUID(known["callbackId"]))
    if callback is None or callback.deleted_at is not None:
        return None
    old_url = known.get("receiverUrl", receiver_url)
    callback.callback_url = callback.callback_url.replace(old_url, receiver_url, 1)
    for action in session.scalars(select(Action).where(Action.callback_id == callback.id)):
        url = action.config.get("url")
        if isinstance(url, str) and url.startswith(old_url):
            action.config = {**action.config, "url": url.replace(old_url, receiver_url, 1)}
    return Demo(callback.id, callback.trigger_token, known.get("apiKey"))


def _make_demo(session: Session, box: SecretBox, user_id: UUID, receiver_url: str) -> Demo:
    """A parallel pair, then an ordered tail of two."""
    callback = Callback(
        name=DEMO_NAME,
        callback_url=f"{receiver_url}/order",
        trigger_token=secrets.token_urlsafe(24),
        user_id=user_id,
        tags=["demo"],
        timeout_duration=5_000,
        signing_secrets=[{"secret": box.encrypt(new_signing_secret()), "createdAt": None, "expiresAt": None}],
    )
    session.add(callback)
    session.flush()
    steps: tuple[tuple[str, ActionType, dict[str, Any], bool], ...] = (
        ("primary", ActionType.HTTP_POST, {"target": "callback_url"}, True),
        ("audit", ActionType.HTTP_POST, {"url": f"{receiver_url}/audit"}, True),
        ("confirm", ActionType.HTTP_POST, {"url": f"{receiver_url}/confirm", "body": {"done": True}}, False),
        ("keep", ActionType.STORE, {"key": "last-order"}, False),
    )
    for order, (name, kind, config, parallel) in enumerate(steps):
        session.add(
            Action(
                callback_id=callback.id,
                user_id=user_id,
                type=kind,
                name=name,
                config=config,
                parallel=parallel,
                order=order,
            )
        )
    key = new_token(KEY_PREFIX)
    session.add(
        ApiKey(
            name="demo (read only)",
            key=token_hash(key),
            prefix=key[:12],
            user_id=user_id,
            permissions=["read"],
        )
    )
    return Demo(callback.id, callback.trigger_token, key)
