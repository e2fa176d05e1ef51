"""Actions: /api/v1/callbacks/{id}/actions and /api/v1/actions/{id}.

Invariant: a config, a `retry` or a type that could not run is refused here, with the field and the mend;
the same check runs again before each attempt, since rows can change behind the API's back.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from flask_openapi import APIBlueprint
from pydantic import AfterValidator, Field, JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.management.body import Body, IdPath
from api.management.callbacks import Name, own_callback
from api.services import services
from shared.action_types import KINDS, parse_config
from shared.errors import Conflict, Invalid, NotFound
from shared.models import Action, ActionType, OnFailure
from shared.retry_policy import parse_retry

MAX_ACTIONS = 100  # of one callback: each becomes an execution row at every trigger
MAX_ORDER = 1_000_000

actions = APIBlueprint("actions", __name__, url_prefix="/api/v1")
actions.before_request(authenticate)


def _storable(value: Any) -> Any:
    """Refuse what PostgreSQL's jsonb cannot hold, anywhere inside."""
    match value:
        case str() if "\x00" in value:
            raise ValueError("a NUL character cannot be stored")
        case list():
            for item in value:
                _storable(item)
        case dict():
            for key, item in value.items():
                _storable(key)
                _storable(item)
    return value


Config = Annotated[dict[str, JsonValue], AfterValidator(_storable)]
Order = Annotated[int, Field(ge=0, le=MAX_ORDER)]


class NewAction(Body):
    """config has the shape of its type. order: default, behind the callback's last action."""

    type: ActionType
    name: Name | None = None
    config: Config
    order: Order | None = None
    parallel: bool = False
    enabled: bool = True
    on_failure: OnFailure = OnFailure.STOP
    retry: dict[str, JsonValue] | None = None


class ActionChange(Body):
    """Only what is given changes; it holds for every attempt that starts later."""

    name: Name | None = None
    config: Config | None = None
    order: Order | None = None
    parallel: bool | None = None
    enabled: bool | None = None
    on_failure: OnFailure | None = None
    retry: dict[str, JsonValue] | None = None


NULLABLE = frozenset({"name", "retry"})


def show(action: Action) -> dict[str, Any]:
    """An action as the API shows it, secrets masked."""
    kind = KINDS.get(action.type.value)
    return {
        "id": action.id,
        "callbackId": action.callback_id,
        "type": action.type,
        "name": action.name,
        "summary": kind.summarize(action.config) if kind else None,
        "config": kind.redact(action.config) if kind else {},
        "order": action.order,
        "parallel": action.parallel,
        "enabled": action.enabled,
        "onFailure": action.on_failure,
        "retry": action.retry,
        "createdAt": action.created_at,
        "updatedAt": action.updated_at,
    }


@actions.get("/callbacks/<uuid:id>/actions")
def list_actions(path: IdPath) -> dict[str, Any]:
    """A callback's actions in the order in which they run."""
    with Session(services().engine) as session:
        callback = own_callback(session, path.id)
        rows = session.scalars(
            select(Action)
            .where(Action.callback_id == callback.id, Action.deleted_at.is_(None))
            .order_by(Action.order, Action.id)
        )
        return {"items": [show(action) for action in rows], "nextCursor": None}


@actions.post("/callbacks/<uuid:id>/actions")
def create_action(path: IdPath, body: NewAction) -> tuple[dict[str, Any], int]:
    """Add an action to a callback."""
    parse_config(body.type, body.config)
    parse_retry(body.retry)
    with Session(services().engine) as session, session.begin():
        callback = own_callback(session, path.id)
        session.refresh(callback, with_for_update=True)  # so that two additions do not pass the cap together
        last, count = _last_order(session, callback.id)
        if count >= MAX_ACTIONS:
            raise Conflict(
                f"A callback has at most {MAX_ACTIONS} actions.",
                code="too_many_actions",
                hint="Delete one, or use a second callback.",
            )
        fields = body.model_dump(exclude={"order"})
        action = Action(
            **fields,
            order=last + 1 if body.order is None else body.order,
            callback_id=callback.id,
            user_id=callback.user_id,
        )
        session.add(action)
        session.flush()
        session.refresh(action)
        return show(action), 201


def _last_order(session: Session, callback_id: UUID) -> tuple[int, int]:
    last, count = session.execute(
        select(func.coalesce(func.max(Action.order), -1), func.count()).where(
            Action.callback_id == callback_id, Action.deleted_at.is_(None)
        )
    ).one()
    return last, count


@actions.get("/actions/<uuid:id>")
def get_action(path: IdPath) -> dict[str, Any]:
    """One action."""
    with Session(services().engine) as session:
        return show(_own_action(session, path.id))


@actions.patch("/actions/<uuid:id>")
def change_action(path: IdPath, body: ActionChange) -> dict[str, Any]:
    """Change what is given; runs under way keep their steps and take the new config."""
    changes = body.model_dump(exclude_unset=True)
    for field, value in changes.items():
        if value is None and field not in NULLABLE:
            raise Invalid(f"{field} cannot be null.")
    if "retry" in changes:
        parse_retry(changes["retry"])
    with Session(services().engine) as session, session.begin():
        action = _own_action(session, path.id)
        if "config" in changes:
            parse_config(action.type, changes["config"])
        for field, value in changes.items():
            setattr(action, field, value)
        session.flush()
        session.refresh(action)
        return show(action)


@actions.delete("/actions/<uuid:id>")
def delete_action(path: IdPath) -> tuple[str, int]:
    """Delete an action with its executions."""
    with Session(services().engine) as session, session.begin():
        _own_action(session, path.id).deleted_at = func.now()
    return "", 204


def _own_action(session: Session, action_id: UUID) -> Action:
    found = session.scalar(
        select(Action).where(
            Action.id == action_id, Action.user_id == caller().user_id, Action.deleted_at.is_(None)
        )
    )
    if found is None:
        raise NotFound("You have no such action.")
    own_callback(session, found.callback_id)
    return found
