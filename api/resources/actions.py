"""Actions: the outgoing steps of a callback.

Invariants:

- A config, a `retry` or a type that could not run is refused, with the field and the fix.
- The same check runs again before each attempt, since rows can change behind the API's back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.resources import bindings, callbacks, secrecy
from api.resources.action_texts import (
    check_condition,
    check_order,
    earlier_names,
    must_not_be_read,
    reads_of,
)
from api.resources.shapes import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    Change,
    Given,
    Name,
    Page,
    Shown,
    example,
)
from api.work import Work
from shared.action_types.retry_policy import parse_retry
from shared.errors import Conflict, NotFound
from shared.models import Action, ActionType, OnFailure
from shared.seals import moved_url

# Of one callback: each becomes an execution row at every trigger.
MAX_ACTIONS = 100
MAX_ORDER = 1_000_000

# What a change of these could mean to other actions is looked at under the callback's lock.
LOCKING = frozenset({"config", "condition", "credential_id", "name", "order", "parallel"})

# Of a config.
MAX_DEPTH = 32
NUMBERS = range(-(2**63), 2**63)


def _storable(value: Any, depth: int = 0) -> Any:
    """Refuse what PostgreSQL's jsonb cannot hold, or would not give back as it came, anywhere
    inside. (A number that was changed as it was read is refused by `face.py`.)
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    match value:
        case str() if "\x00" in value:
            raise ValueError("a NUL character cannot be stored")
        case int() | float() if not NUMBERS.start <= value < NUMBERS.stop:
            raise ValueError("a number of more than 64 bits does not come back as it was; send it as text")
        case list():
            for item in value:
                _storable(item, depth + 1)
        case dict():
            for key, item in value.items():
                _storable(key)
                _storable(item, depth + 1)
    return value


ActionConfig = Annotated[dict[str, JsonValue], AfterValidator(lambda value: _storable(value))]
Order = Annotated[int, Field(ge=0, le=MAX_ORDER)]


Condition = Annotated[str, Field(min_length=1), AfterValidator(lambda text: check_condition(text))]


class NewAction(Given):
    """config has the shape of its type. order: default, behind the callback's last action.

    name: by which later actions read what it is answered; unique in its callback. condition: a
    Liquid expression; where it does not hold, the action is skipped, which is a success.
    credentialId: one of yours that fits the type, and whose origins hold that of the URL.
    """

    model_config = example(type="STORE", name="keep", config={"key": "last-order"}, onFailure="CONTINUE")

    type: ActionType
    name: Name | None = None
    config: ActionConfig
    order: Order | None = None
    parallel: bool = False
    enabled: bool = True
    on_failure: OnFailure = OnFailure.STOP
    retry: dict[str, JsonValue] | None = None
    condition: Condition | None = None
    credential_id: UUID | None = None


class ActionChange(Change):
    """Only what is given changes; it holds for every attempt that starts later."""

    model_config = example(enabled=False)
    NULLABLE = frozenset({"name", "retry", "condition", "credential_id"})

    name: Name | None = None
    config: ActionConfig | None = None
    order: Order | None = None
    parallel: bool | None = None
    enabled: bool | None = None
    on_failure: OnFailure | None = None
    retry: dict[str, JsonValue] | None = None
    condition: Condition | None = None
    credential_id: UUID | None = None


class ShownAction(Shown):
    """An action, secrets masked: values of headers but harmless ones, and of a URL's query.

    A mask (`***`) that is written back means «unchanged».
    """

    model_config = example(
        id=EXAMPLE_ID,
        callbackId=EXAMPLE_OTHER_ID,
        type="STORE",
        name="keep",
        summary="store the body as last-order",
        config={"key": "last-order"},
        order=1,
        parallel=False,
        enabled=True,
        onFailure="CONTINUE",
        retry=None,
        condition=None,
        credentialId=None,
        createdAt=EXAMPLE_TIME,
        updatedAt=EXAMPLE_TIME,
    )

    id: UUID
    callback_id: UUID
    type: ActionType
    name: str | None
    summary: str | None = Field(description="One line for people: what it does.")
    config: dict[str, Any]
    order: int
    parallel: bool
    enabled: bool
    on_failure: OnFailure
    retry: dict[str, Any] | None
    condition: str | None
    credential_id: UUID | None
    created_at: datetime
    updated_at: datetime


class ActionPage(Page[ShownAction]):
    """A callback's actions in the order in which they run: always all of them."""


def create(work: Work, owner: UUID, callback_id: UUID, new: NewAction) -> ShownAction:
    """Add an action to a callback. Conflict: it has MAX_ACTIONS."""
    config = secrecy.new_config(work, new.type, new.config)
    parse_retry(new.retry)
    # locked, so that two additions do not pass the cap together
    callback = callbacks.own(work.session, owner, callback_id, for_update=True)
    last, count = _last_order(work.session, callback.id)
    if count >= MAX_ACTIONS:
        raise Conflict(
            f"A callback has at most {MAX_ACTIONS} actions.",
            code="too_many_actions",
            hint="Delete one, or use a second callback.",
        )
    bindings.bind(work, owner, new.credential_id, new.type, config, callback)
    action = Action(
        **new.model_dump(exclude={"order", "config"}),
        config=config,
        order=last + 1 if new.order is None else new.order,
        callback_id=callback.id,
        user_id=owner,
    )
    with _unique_name():
        work.session.add(action)
        work.session.flush()
    _set_reads(work, action)
    check_order(work.session, callback.id)
    shown = _show(work, work.fresh(action))
    work.audit("action_created", action=action.id, callback=callback.id)
    return shown


def find(work: Work, owner: UUID, action_id: UUID) -> ShownAction:
    """One action; raises NotFound."""
    return _show(work, own(work.session, owner, action_id))


def page(work: Work, owner: UUID, callback_id: UUID) -> ActionPage:
    """A callback's actions in the order in which they run."""
    callback = callbacks.own(work.session, owner, callback_id)
    rows = work.session.scalars(
        select(Action)
        .where(Action.callback_id == callback.id, Action.deleted_at.is_(None))
        .order_by(Action.order, Action.id)
    )
    return ActionPage(items=[_show(work, action) for action in rows])


def change(work: Work, owner: UUID, action_id: UUID, given: ActionChange) -> ShownAction:
    """Change what is given; runs under way keep their steps and take the new config.

    A mask in the config means «unchanged».
    """
    changes = given.changes()
    if "retry" in changes:
        parse_retry(changes["retry"])
    action = own(work.session, owner, action_id)
    if changes.keys() & LOCKING:
        callback = callbacks.own(work.session, owner, action.callback_id, for_update=True)
        work.session.refresh(action)
        if "config" in changes:
            changes["config"] = secrecy.changed_config(work, action, callback, changes["config"])
        if "name" in changes and changes["name"] != action.name and action.name is not None:
            must_not_be_read(work.session, action)
        if changes.keys() & {"config", "credential_id"}:
            credential_id = changes.get("credential_id", action.credential_id)
            config = changes.get("config", action.config)
            bindings.bind(work, owner, credential_id, action.type, config, callback)
    for name, value in changes.items():
        setattr(action, name, value)
    with _unique_name():
        work.session.flush()
    if changes.keys() & {"config", "condition"}:
        _set_reads(work, action)
    if changes.keys() & LOCKING:
        check_order(work.session, action.callback_id)
    work.audit("action_changed", action=action.id, fields=sorted(changes))
    return _show(work, work.fresh(action))


def move(work: Work, owner: UUID, callback_id: UUID, old_origin: str, new_origin: str) -> None:
    """Let the actions of a callback whose URL has old_origin go to new_origin, with their secrets:
    the installation's own receiver has moved.
    """
    callback = callbacks.own(work.session, owner, callback_id)
    for action in work.session.scalars(select(Action).where(Action.callback_id == callback.id)):
        url = action.config.get("url")
        if isinstance(url, str) and (moved := moved_url(url, old_origin, new_origin)) != url:
            action.config = {**action.config, "url": moved}
            work.audit("action_moved", action=action.id)


def delete(work: Work, owner: UUID, action_id: UUID) -> None:
    """Delete an action with its executions. Conflict: another reads what it is answered."""
    action = own(work.session, owner, action_id)
    callbacks.own(work.session, owner, action.callback_id, for_update=True)
    if action.name is not None:
        must_not_be_read(work.session, action)
    action.deleted_at = func.now()
    work.audit("action_deleted", action=action_id)


def _set_reads(work: Work, action: Action) -> None:
    """Check the templates and the condition of an action that has its place, and note whose answers
    they read.
    """
    config = secrecy.opened_config(work, action)
    earlier = earlier_names(work.session, action)
    action.reads = reads_of(action.type, config, action.condition, earlier)
    work.session.flush()


@contextmanager
def _unique_name() -> Iterator[None]:
    """Turn a clash of names into Conflict."""
    try:
        yield
    except IntegrityError as error:
        if "uq_actions_callback_id_name" not in str(error.orig):
            raise
        raise Conflict(
            "Another action of this callback has this name.",
            code="action_name_taken",
            hint="Choose another name: templates call actions by their names.",
        ) from None


def _last_order(session: Session, callback_id: UUID) -> tuple[int, int]:
    last, count = session.execute(
        select(func.coalesce(func.max(Action.order), -1), func.count()).where(
            Action.callback_id == callback_id, Action.deleted_at.is_(None)
        )
    ).one()
    return last, count


def own(session: Session, owner: UUID, action_id: UUID) -> Action:
    """The row of the owner's action with this id; raises NotFound."""
    found = session.scalar(
        select(Action).where(Action.id == action_id, Action.user_id == owner, Action.deleted_at.is_(None))
    )
    if found is None:
        raise NotFound("You have no such action.")
    callbacks.own(session, owner, found.callback_id)
    return found


def _show(work: Work, action: Action) -> ShownAction:
    config, summary = secrecy.shown_config(work, action)
    return ShownAction(
        id=action.id,
        callback_id=action.callback_id,
        type=action.type,
        name=action.name,
        summary=summary,
        config=config,
        order=action.order,
        parallel=action.parallel,
        enabled=action.enabled,
        on_failure=action.on_failure,
        retry=action.retry,
        condition=action.condition,
        credential_id=action.credential_id,
        created_at=action.created_at,
        updated_at=action.updated_at,
    )
