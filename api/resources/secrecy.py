"""Secrets in configs and URLs, between a caller and the rows: masked as they are shown.

Invariants:

- What is shown holds no secret. A mask that is written back means «unchanged».
- A secret goes to the scheme, host and port that it was set for, whatever is changed around it.

A config or a URL that is changed belongs to a callback that is locked, so that the two do not
change past one another.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from api.work import Work
from shared.action_types import KINDS, is_primary, parse_config, secret_names
from shared.action_types.http_post import check_url
from shared.errors import Invalid
from shared.masks import is_same_destination, masked_url, secret_needed_again, unmasked_url
from shared.models import Action, ActionType, Callback

URL_FIELD = "callbackUrl"


def new_config(kind: ActionType, given: dict[str, Any]) -> dict[str, Any]:
    """The config of a new action, to be stored; raises Invalid."""
    parse_config(kind, given)
    config: dict[str, Any] = KINDS[kind].unmask(given, {})
    return config


def changed_config(action: Action, callback: Callback, given: dict[str, Any]) -> dict[str, Any]:
    """A new config of this action, to be stored; raises Invalid."""
    parse_config(action.type, given)
    kind = KINDS[action.type]
    config: dict[str, Any] = kind.unmask(given, action.config)
    goes_to = kind.destination(config) or callback.callback_url
    went_to = kind.destination(action.config) or callback.callback_url
    if config != given and not is_same_destination(goes_to, went_to):
        raise secret_needed_again(
            "The action would go to another scheme, host or port, and what is masked was not set for that.",
            hint="Write the values that are masked, or leave them out.",
        )
    parse_config(action.type, config)
    return config


def shown_config(action: Action) -> tuple[dict[str, Any], str | None]:
    """An action's config as it is shown, and a line for people; nothing of an unknown type."""
    kind = KINDS.get(action.type)
    return (kind.redact(action.config), kind.summarize(action.config)) if kind else ({}, None)


def new_url(given: str) -> str:
    """The URL of a new callback, to be stored; raises Invalid."""
    return unmasked_url(given, None, URL_FIELD)


def changed_url(work: Work, callback: Callback, given: str) -> str:
    """A new URL of this callback, to be stored; raises Invalid."""
    kept = callback.callback_url
    url = unmasked_url(given, kept, URL_FIELD)
    try:
        check_url(url)
    except ValueError as error:
        raise Invalid(f"{URL_FIELD}: {error}.") from None
    if is_same_destination(url, kept):
        return url
    if url != given:
        raise secret_needed_again(
            f"The {URL_FIELD} has another scheme, host or port, and what is masked was not set for that.",
            hint="Write the values that are masked, or leave them out.",
        )
    names = _secrets_for_own_url(work, callback)
    if names:
        raise secret_needed_again(
            f"The primary action sends {', '.join(names)} to the {URL_FIELD}, which would have another scheme, "
            "host or port.",
            hint=f"Take these headers out of the action's config, change the {URL_FIELD}, then set them again.",
        )
    return url


def shown_url(callback: Callback) -> str:
    """A callback's URL as it is shown."""
    return masked_url(callback.callback_url)


def _secrets_for_own_url(work: Work, callback: Callback) -> list[str]:
    """The names of the headers that actions send to the callback's own URL, and that are secret."""
    actions = work.session.scalars(
        select(Action).where(Action.callback_id == callback.id, Action.deleted_at.is_(None))
    )
    return sorted(
        {
            name
            for action in actions
            if is_primary(action.type, action.config)
            for name in secret_names(action.type, action.config)
        }
    )
