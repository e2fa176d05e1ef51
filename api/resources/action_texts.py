"""The templates and the conditions of a callback's actions, as they are saved.

Invariants:

- What is saved parses, and names only what there is. An action reads answers of earlier steps
  alone, by names that are unique in its callback.
- So it stays, whatever is changed around it: a name, an order, an action that is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.action_types import slots
from shared.action_types.steps import assign_steps
from shared.errors import Conflict, Invalid
from shared.models import Action, ActionType
from shared.templates import names
from shared.templates.language import TemplateError
from shared.templates.template import condition


def check_condition(text: str | None) -> str | None:
    """A condition that parses; raises TemplateError."""
    if text is not None:
        try:
            condition(text)
        except TemplateError as error:
            raise error.at("condition") from None
    return text


def reads_of(
    kind: ActionType, config: dict[str, Any], condition_text: str | None, earlier: Collection[str]
) -> list[str]:
    """The names of the actions whose answers a config and a condition read; raises TemplateError.

    config: opened. earlier: the names of the actions of earlier steps.
    """
    found: set[str] = set()
    for slot in slots(kind, config):
        try:
            names.check(slot.template.names, slot.template.text, earlier)
        except TemplateError as error:
            raise error.at(slot.where) from None
        found |= slot.template.answers
    if condition_text is not None:
        found |= reads_of_condition(condition_text, earlier)
    return sorted(found)


def reads_of_condition(text: str, earlier: Collection[str]) -> frozenset[str]:
    """The names of the actions whose answers a condition reads; raises TemplateError."""
    try:
        parsed = condition(text)
        names.check(parsed.names, text, earlier)
    except TemplateError as error:
        raise error.at("condition") from None
    return parsed.answers


def names_of_actions(session: Session, callback_id: UUID) -> list[str]:
    """The names of a callback's actions."""
    return [action.name for action, _ in _steps(session, callback_id) if action.name is not None]


def earlier_names(session: Session, action: Action) -> list[str]:
    """The names of the actions that have ended before this one begins."""
    steps = dict(_steps(session, action.callback_id))
    own = steps[action]
    return [one.name for one, step in steps.items() if step < own and one.name is not None]


def check_order(session: Session, callback_id: UUID) -> None:
    """Refuse what would let an action read what comes no earlier; raises Invalid."""
    before: set[str] = set()
    of_step: set[str] = set()
    current = 0
    for action, step in _steps(session, callback_id):
        if step != current:
            before |= of_step
            of_step, current = set(), step
        if missing := sorted(set(action.reads) - before):
            raise Invalid(
                f"The action {_named(action)} reads what «{missing[0]}» is answered, which would not come before it.",
                code="read_by_another_action",
                hint="Change that action first: its templates and its condition name what they read.",
            )
        if action.name is not None:
            of_step.add(action.name)


def must_not_be_read(session: Session, action: Action) -> None:
    """Refuse to take an action's name away while others read its answer; raises Conflict."""
    readers = session.scalars(
        select(Action).where(
            Action.callback_id == action.callback_id,
            Action.deleted_at.is_(None),
            Action.id != action.id,
            Action.reads.contains([action.name]),
        )
    ).all()
    if readers:
        raise Conflict(
            f"What this action is answered is read by {', '.join(map(_named, readers))}.",
            code="read_by_another_action",
            hint="Change these first: their templates and conditions name what they read.",
        )


def _steps(session: Session, callback_id: UUID) -> Iterable[tuple[Action, int]]:
    actions = session.scalars(
        select(Action).where(Action.callback_id == callback_id, Action.deleted_at.is_(None))
    ).all()
    return assign_steps(actions)


def _named(action: Action) -> str:
    return f"«{action.name}»" if action.name is not None else str(action.id)
