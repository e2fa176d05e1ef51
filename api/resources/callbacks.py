"""Callbacks: what a user defines and the world triggers.

Invariants:

- A callback is created together with its primary action, which delivers to `callbackUrl`.
- A deletion marks it, so that it is gone for everybody at once, and the purge removes its rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.resources import bindings, secrecy, signing
from api.resources.paging import newest
from api.resources.shapes import (
    EXAMPLE_ID,
    EXAMPLE_TIME,
    Change,
    Given,
    Name,
    Page,
    PageQuery,
    Shown,
    Tag,
    example,
    shown_once,
)
from api.resources.signing import EXAMPLE_KEY, PublicKey, Schemes
from api.urls import NAME
from api.work import Work
from shared.action_types.http_message import check_url
from shared.errors import Conflict, Invalid, NotFound
from shared.models import Action, ActionType, Callback
from shared.seals import moved_url
from shared.signatures import Scheme

MAX_TAGS = 20
MAX_CACHE_SECONDS = 24 * 3600
PRIMARY_NAME = "primary"
PRIMARY_CONFIG = {"target": "callback_url"}


def _custom_path(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a custom path has 1 to 200 of the characters A–Z a–z 0–9 . _ ~ -")
    return value


Url = Annotated[str, AfterValidator(check_url)]
CustomPath = Annotated[str, AfterValidator(_custom_path)]


class NewCallback(Given):
    """timeoutDuration in ms, cachePeriod in seconds.

    signatures: `v1` (HMAC-SHA256), `v1a` (ed25519) or both.
    """

    model_config = example(name="orders", callbackUrl="https://example.com/hooks/orders", tags=["shop"])

    name: Name
    callback_url: Url
    custom_path: CustomPath | None = None
    timeout_duration: int = Field(30_000, ge=1)
    cache_period: int = Field(0, ge=0, le=MAX_CACHE_SECONDS)
    active_status: bool = True
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    signatures: Schemes = Field(["v1"])


class CallbackChange(Change):
    """Only what is given changes. A mask (`***`) in callbackUrl means «unchanged»."""

    model_config = example(activeStatus=False)
    NULLABLE = frozenset({"custom_path"})

    name: Name | None = None
    callback_url: Url | None = None
    custom_path: CustomPath | None = None
    timeout_duration: int | None = Field(None, ge=1)
    cache_period: int | None = Field(None, ge=0, le=MAX_CACHE_SECONDS)
    active_status: bool | None = None
    tags: list[Tag] | None = Field(None, max_length=MAX_TAGS)


_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "name": "orders",
    "callbackUrl": "https://example.com/hooks/orders",
    "activeStatus": True,
    "triggerToken": "3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz",
    "triggerUrl": "https://hooks.example.com/t/3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz",
    "customPath": None,
    "customUrl": None,
    "timeoutDuration": 30_000,
    "cachePeriod": 0,
    "tags": ["shop"],
    "signatures": ["v1", "v1a"],
    "publicKeys": [{"key": EXAMPLE_KEY, "expiresAt": None}],
    "createdAt": EXAMPLE_TIME,
    "updatedAt": EXAMPLE_TIME,
}


class ShownCallback(Shown):
    """A callback. Its signing secrets are never shown again."""

    model_config = example(**_EXAMPLE)

    id: UUID
    name: str
    callback_url: str = Field(description="Values in its query are masked.")
    active_status: bool
    trigger_token: str | None
    trigger_url: str | None
    custom_path: str | None
    custom_url: str | None
    timeout_duration: int = Field(description="How long one attempt may take, in ms.")
    cache_period: int = Field(description="How long an equal call is answered from the last one, in seconds.")
    tags: list[str]
    signatures: list[Scheme] = Field(description="The schemes by which its deliveries are signed now.")
    public_keys: list[PublicKey] = Field(description="What verifies `v1a` now, newest first.")
    created_at: datetime
    updated_at: datetime


class CreatedCallback(ShownCallback):
    """A new callback, with its symmetric signing secret (null where only `v1a` signs)."""

    model_config = example(**_EXAMPLE, signingSecret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signing_secret: str | None = shown_once("Shown only in the first answer.")


class CallbackPage(Page[ShownCallback]):
    """Callbacks, newest first."""


def create(work: Work, owner: UUID, new: NewCallback) -> CreatedCallback:
    """Create a callback and its primary action. Conflict: the custom path is taken."""
    _check_timeout(work, new.timeout_duration)
    secrets_made = signing.new_secrets(work, new.signatures)
    callback = Callback(
        **new.model_dump(exclude={"callback_url", "signatures"}),
        callback_url=secrecy.new_url(work, new.callback_url),
        user_id=owner,
        trigger_token=new_trigger_token(),
        signing_secrets=[secret.row for secret in secrets_made],
    )
    with _unique_path():
        work.session.add(callback)
        work.session.flush()
    work.session.add(
        Action(
            callback_id=callback.id,
            user_id=owner,
            type=ActionType.HTTP_POST,
            name=PRIMARY_NAME,
            config=PRIMARY_CONFIG,
        )
    )
    work.audit("callback_created", callback=callback.id)
    fields = _fields(work, work.fresh(callback))
    return CreatedCallback(**fields, signing_secret=signing.symmetric_of(secrets_made))


def new_trigger_token() -> str:
    """A trigger token: 192 random bits."""
    return secrets.token_urlsafe(24)


def find(work: Work, owner: UUID, callback_id: UUID) -> ShownCallback:
    """One callback; raises NotFound."""
    return ShownCallback(**_fields(work, own(work.session, owner, callback_id)))


def page(work: Work, owner: UUID, query: PageQuery) -> CallbackPage:
    """The owner's callbacks, newest first."""
    statement = select(Callback).where(Callback.user_id == owner, Callback.deleted_at.is_(None))
    if query.cursor is not None:
        statement = statement.where(Callback.id < query.cursor)
    found = work.session.scalars(statement.order_by(Callback.id.desc()).limit(query.limit + 1)).all()
    rows, next_cursor = newest(found, query.limit)
    return CallbackPage(items=[ShownCallback(**_fields(work, row)) for row in rows], next_cursor=next_cursor)


def change(work: Work, owner: UUID, callback_id: UUID, given: CallbackChange) -> ShownCallback:
    """Change what is given; it holds for calls from a second later.

    A mask in the URL means «unchanged». Conflict: the custom path is taken.
    """
    changes = given.changes()
    _check_timeout(work, changes.get("timeout_duration"))
    callback = own(work.session, owner, callback_id, for_update="callback_url" in changes)
    if "callback_url" in changes:
        changes["callback_url"] = secrecy.changed_url(work, callback, changes["callback_url"])
        bindings.must_still_fit(work, callback, changes["callback_url"])
    for name, value in changes.items():
        setattr(callback, name, value)
    with _unique_path():
        work.session.flush()
    work.audit("callback_changed", callback=callback.id, fields=sorted(changes))
    return ShownCallback(**_fields(work, work.fresh(callback)))


def move(work: Work, owner: UUID, callback_id: UUID, old_origin: str, new_origin: str) -> None:
    """Let a callback whose URL has old_origin go to new_origin, with its secrets: the
    installation's own receiver has moved.
    """
    callback = own(work.session, owner, callback_id)
    moved = moved_url(callback.callback_url, old_origin, new_origin)
    if moved != callback.callback_url:
        callback.callback_url = moved
        work.audit("callback_moved", callback=callback.id)


def delete(work: Work, owner: UUID, callback_id: UUID) -> None:
    """Delete a callback with everything that belongs to it.

    Its trigger URL answers 404 within a second.
    """
    callback = own(work.session, owner, callback_id)
    callback.deleted_at = func.now()
    callback.trigger_token = None
    callback.custom_path = None
    work.audit("callback_deleted", callback=callback.id)


def own(session: Session, owner: UUID, callback_id: UUID, *, for_update: bool = False) -> Callback:
    """The row of the owner's callback with this id; raises NotFound.

    for_update: nobody else changes it until the commit; rows that name it can come meanwhile.
    """
    statement = select(Callback).where(
        Callback.id == callback_id, Callback.user_id == owner, Callback.deleted_at.is_(None)
    )
    if for_update:  # what the session has read of it before may be older than the lock
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise NotFound("You have no such callback.")
    return found


def is_own(session: Session, owner: UUID, callback_id: UUID) -> bool:
    """Whether the owner has a callback with this id."""
    found = session.scalar(
        select(Callback.id).where(
            Callback.id == callback_id, Callback.user_id == owner, Callback.deleted_at.is_(None)
        )
    )
    return found is not None


def _fields(work: Work, callback: Callback) -> dict[str, object]:
    token, path = callback.trigger_token, callback.custom_path
    return {
        "id": callback.id,
        "name": callback.name,
        "callback_url": secrecy.shown_url(work, callback),
        "active_status": callback.active_status,
        "trigger_token": token,
        "trigger_url": None if token is None else work.urls.by_token(token),
        "custom_path": path,
        "custom_url": None if path is None else work.urls.by_path(path),
        "timeout_duration": callback.timeout_duration,
        "cache_period": callback.cache_period,
        "tags": callback.tags,
        **signing.shown(signing.in_force(work, callback)),
        "created_at": callback.created_at,
        "updated_at": callback.updated_at,
    }


def _check_timeout(work: Work, timeout_ms: int | None) -> None:
    limit = work.settings.max_timeout_ms
    if timeout_ms is not None and timeout_ms > limit:
        raise Invalid(f"timeoutDuration: {timeout_ms} ms is more than the allowed {limit} ms.")


@contextmanager
def _unique_path() -> Iterator[None]:
    """Turn a clash of custom paths into Conflict."""
    try:
        yield
    except IntegrityError as error:
        if "custom_path" not in str(error.orig):
            raise
        raise Conflict(
            "This custom path is taken.", code="custom_path_taken", hint="Choose another customPath."
        ) from None
