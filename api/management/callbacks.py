"""Callbacks: /api/v1/callbacks.

Invariant: a callback is created together with its primary action, which delivers to `callbackUrl`; a
deletion marks it, so that it is gone for everybody at once, and the purge removes its rows.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from uuid import UUID

from flask import url_for
from flask_openapi import APIBlueprint
from pydantic import AfterValidator, Field
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.ingress.resolve import NAME
from api.management.body import Body, IdPath, PageQuery
from api.management.paging import page
from api.services import services
from shared.action_types.http_post import check_url
from shared.clock import database_clock
from shared.crypto import new_signing_secret
from shared.errors import Conflict, Invalid, NotFound
from shared.models import Action, ActionType, Callback

MAX_NAME_CHARS = 200
MAX_TAGS = 20
MAX_CACHE_SECONDS = 24 * 3600
PRIMARY_CONFIG = {"target": "callback_url"}

callbacks = APIBlueprint("callbacks", __name__, url_prefix="/api/v1/callbacks")
callbacks.before_request(authenticate)


def _no_control_characters(value: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("control characters are not allowed")
    return value


def _custom_path(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a custom path has 1 to 200 of the characters A–Z a–z 0–9 . _ ~ -")
    return value


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_no_control_characters)]
Url = Annotated[str, AfterValidator(check_url)]
CustomPath = Annotated[str, AfterValidator(_custom_path)]
Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_no_control_characters)]


class NewCallback(Body):
    """timeoutDuration in ms, cachePeriod in seconds."""

    name: Name
    callback_url: Url
    custom_path: CustomPath | None = None
    timeout_duration: int = Field(30_000, ge=1)
    cache_period: int = Field(0, ge=0, le=MAX_CACHE_SECONDS)
    active_status: bool = True
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)


class CallbackChange(Body):
    """Only what is given changes."""

    name: Name | None = None
    callback_url: Url | None = None
    custom_path: CustomPath | None = None
    timeout_duration: int | None = Field(None, ge=1)
    cache_period: int | None = Field(None, ge=0, le=MAX_CACHE_SECONDS)
    active_status: bool | None = None
    tags: list[Tag] | None = Field(None, max_length=MAX_TAGS)


NULLABLE = frozenset({"custom_path"})


def own_callback(session: Session, callback_id: UUID) -> Callback:
    """The caller's callback with this id; raises NotFound."""
    found = session.scalar(
        select(Callback).where(
            Callback.id == callback_id,
            Callback.user_id == caller().user_id,
            Callback.deleted_at.is_(None),
        )
    )
    if found is None:
        raise NotFound("You have no such callback.")
    return found


def show(callback: Callback) -> dict[str, Any]:
    """A callback as the API shows it. Signing secrets are never shown again."""
    base_url = services().settings.base_url
    token, path = callback.trigger_token, callback.custom_path
    return {
        "id": callback.id,
        "name": callback.name,
        "callbackUrl": callback.callback_url,
        "activeStatus": callback.active_status,
        "triggerToken": token,
        "triggerUrl": None if token is None else base_url + url_for("ingress.by_token", token=token),
        "customPath": path,
        "customUrl": None if path is None else base_url + url_for("ingress.by_path", path=path),
        "timeoutDuration": callback.timeout_duration,
        "cachePeriod": callback.cache_period,
        "tags": callback.tags,
        "createdAt": callback.created_at,
        "updatedAt": callback.updated_at,
    }


@callbacks.get("")
def list_callbacks(query: PageQuery) -> dict[str, Any]:
    """The caller's callbacks, newest first."""
    statement = select(Callback).where(Callback.user_id == caller().user_id, Callback.deleted_at.is_(None))
    if query.cursor is not None:
        statement = statement.where(Callback.id < query.cursor)
    with Session(services().engine) as session:
        rows = session.scalars(statement.order_by(Callback.id.desc()).limit(query.limit + 1)).all()
        return page(rows, query.limit, show)


@callbacks.post("")
def create_callback(body: NewCallback) -> tuple[dict[str, Any], int]:
    """Create a callback and its primary action. The answer holds the signing secret, shown once."""
    _check_timeout(body.timeout_duration)
    secret = new_signing_secret()
    now = database_clock.now().isoformat()
    callback = Callback(
        **body.model_dump(),
        user_id=caller().user_id,
        trigger_token=secrets.token_urlsafe(24),
        signing_secrets=[{"secret": services().secrets.encrypt(secret), "createdAt": now, "expiresAt": None}],
    )
    with Session(services().engine) as session, _unique_path(), session.begin():
        session.add(callback)
        session.flush()
        session.add(_primary_action(callback))
        session.flush()
        session.refresh(callback)
        return {**show(callback), "signingSecret": secret}, 201


def _primary_action(callback: Callback) -> Action:
    return Action(
        callback_id=callback.id,
        user_id=callback.user_id,
        type=ActionType.HTTP_POST,
        name="primary",
        config=PRIMARY_CONFIG,
    )


@callbacks.get("/<uuid:id>")
def get_callback(path: IdPath) -> dict[str, Any]:
    """One callback."""
    with Session(services().engine) as session:
        return show(own_callback(session, path.id))


@callbacks.patch("/<uuid:id>")
def change_callback(path: IdPath, body: CallbackChange) -> dict[str, Any]:
    """Change what is given; it holds for calls from a second later."""
    changes = body.model_dump(exclude_unset=True)
    _check_timeout(changes.get("timeout_duration"))
    for field, value in changes.items():
        if value is None and field not in NULLABLE:
            raise Invalid(f"{field} cannot be null.")
    with Session(services().engine) as session, _unique_path(), session.begin():
        callback = own_callback(session, path.id)
        for field, value in changes.items():
            setattr(callback, field, value)
        session.flush()
        session.refresh(callback)
        return show(callback)


@callbacks.delete("/<uuid:id>")
def delete_callback(path: IdPath) -> tuple[str, int]:
    """Delete a callback with everything that belongs to it. Its trigger URL answers 404 within a second."""
    with Session(services().engine) as session, session.begin():
        callback = own_callback(session, path.id)
        callback.deleted_at = func.now()
        callback.trigger_token = None
        callback.custom_path = None
    return "", 204


def _check_timeout(timeout_ms: int | None) -> None:
    limit = services().settings.max_timeout_ms
    if timeout_ms is not None and timeout_ms > limit:
        raise Invalid(f"timeoutDuration: {timeout_ms} ms is more than the allowed {limit} ms.")


class _unique_path:  # noqa: N801 - reads as what it is for
    """Turns a clash of custom paths into 409."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, IntegrityError) and "custom_path" in str(error.orig):
            raise Conflict(
                "This custom path is taken.", code="custom_path_taken", hint="Choose another customPath."
            ) from None
