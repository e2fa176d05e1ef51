"""Secrets in configs and URLs, between a caller and the rows: sealed as they are stored, masked as
they are shown.

Invariants:

- What is shown holds no secret. A mask that is written back means «unchanged».
- A secret goes to the scheme, host and port that it was set for, whatever is changed around it.
- What no key opens any more is shown all masked, and can be set again.

A config or a URL that is changed belongs to a callback that is locked, so that the two do not
change past one another.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from api.work import Work
from shared.action_types import KINDS, is_primary, parse_config, secret_names
from shared.action_types.http_message import check_url
from shared.errors import Invalid
from shared.masks import MASK, is_same_destination, masked_url, secret_needed_again, unmasked_url
from shared.models import Action, ActionType, Callback
from shared.seals import opened_url, origin_of, sealed_url

URL_FIELD = "callbackUrl"
SET_AGAIN = "Write the values that are masked, or leave them out."


def new_config(work: Work, kind: ActionType, given: dict[str, Any]) -> dict[str, Any]:
    """The config of a new action, to be stored; raises Invalid."""
    parse_config(kind, given)
    config = KINDS[kind].unmask(given, {})
    sealed: dict[str, Any] = KINDS[kind].seal(config, work.secrets.encrypt)
    return sealed


def opened_config(work: Work, action: Action) -> dict[str, Any]:
    """An action's config with its secrets, for checks; raises Invalid when no key opens one."""
    config: dict[str, Any] = KINDS[action.type].unseal(action.config, work.secrets.decrypt)
    return config


def changed_config(work: Work, action: Action, callback: Callback, given: dict[str, Any]) -> dict[str, Any]:
    """A new config of this action, to be stored; raises Invalid."""
    parse_config(action.type, given)
    kind = KINDS[action.type]
    # what no key opens is nothing that a mask could stand for
    kept = _open_config(work, action) or {}
    config = kind.unmask(given, kept)
    goes_to, went_to = (kind.destination(one) or origin_of(callback.callback_url) for one in (config, kept))
    if config != given and not is_same_destination(goes_to, went_to):
        raise secret_needed_again(
            "The action would go to another scheme, host or port, and what is masked was not set for that.",
            hint=SET_AGAIN,
        )
    parse_config(action.type, config)
    if config == kept != action.config:  # it is sealed already
        return action.config
    sealed: dict[str, Any] = kind.seal(config, work.secrets.encrypt)
    return sealed


def shown_config(work: Work, action: Action) -> tuple[dict[str, Any], str | None]:
    """An action's config as it is shown, and a line for people; nothing of an unknown type."""
    kind = KINDS.get(action.type)
    if kind is None:
        return {}, None
    config = _open_config(work, action)
    if config is None:
        config = kind.unseal(action.config, _unreadable)
    return kind.redact(config), kind.summarize(config)


def new_url(work: Work, given: str) -> str:
    """The URL of a new callback, to be stored; raises Invalid."""
    return sealed_url(unmasked_url(given, None, URL_FIELD), work.secrets.encrypt)


def changed_url(work: Work, callback: Callback, given: str) -> str:
    """A new URL of this callback, to be stored; raises Invalid."""
    kept = _open_url(work, callback)
    url = unmasked_url(given, kept, URL_FIELD)
    if url == kept != callback.callback_url:  # it is sealed already
        return callback.callback_url
    try:
        check_url(url)
    except ValueError as error:
        raise Invalid(f"{URL_FIELD}: {error}.") from None
    if not is_same_destination(url, origin_of(callback.callback_url)):
        _must_leave_no_secret(work, callback, masked=url != given)
    return sealed_url(url, work.secrets.encrypt)


def shown_url(work: Work, callback: Callback) -> str:
    """A callback's URL as it is shown."""
    url = _open_url(work, callback)
    return masked_url(opened_url(callback.callback_url, _unreadable) if url is None else url)


def _open_config(work: Work, action: Action) -> dict[str, Any] | None:
    """An action's config with its secrets, None when no key opens one of them."""
    try:
        return opened_config(work, action)
    except Invalid:
        return None


def _open_url(work: Work, callback: Callback) -> str | None:
    """A callback's URL, None when no key opens it."""
    try:
        return opened_url(callback.callback_url, lambda sealed: work.secrets.decrypt(sealed))
    except Invalid:
        return None


def _unreadable(_sealed: str) -> str:
    return MASK


def _must_leave_no_secret(work: Work, callback: Callback, *, masked: bool) -> None:
    """Refuse to take secrets along to another destination: what is masked in the URL, and the
    headers that actions send to it.
    """
    if masked:
        raise secret_needed_again(
            f"The {URL_FIELD} has another scheme, host or port, and what is masked was not set for that.",
            hint=SET_AGAIN,
        )
    actions = work.session.scalars(
        select(Action).where(Action.callback_id == callback.id, Action.deleted_at.is_(None))
    )
    names = {
        name
        for action in actions
        if is_primary(action.type, action.config)
        for name in secret_names(action.type, action.config)
    }
    if names:
        raise secret_needed_again(
            f"The primary action sends {', '.join(sorted(names))} to the {URL_FIELD}, which would have another "
            "scheme, host or port.",
            hint=f"Take these headers out of the action's config, change the {URL_FIELD}, then set them again.",
        )
