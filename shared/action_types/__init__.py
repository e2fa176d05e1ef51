"""The pure half of each action type: what its config may hold, and how it is shown.

One file per type, each with Config (a pydantic model) and functions of a config: slots (its
templates), fill (what a model comes to with fields that are rendered), redact and unmask
(shared/masks.py), seal and unseal (shared/seals.py), destination and secret_names (what may go to
it alone), preview, summarize, is_primary. A row holds a sealed config; all but unseal, secret_names
and is_primary take an open one. A type that is not in KINDS cannot be created
yet; worker/actions has the I/O half under equal keys.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.action_types import http_post, store
from shared.action_types.flaws import bad_field
from shared.action_types.texts import Slot, bounded
from shared.errors import Invalid

KINDS: dict[str, ModuleType] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


def parse_config(kind: str, config: Any) -> BaseModel:
    """Check a config and return its model; raises Invalid naming the field and the fix."""
    module = KINDS.get(kind)
    if module is None:
        raise Invalid(
            f"Actions of type {kind} are not available in this version.",
            code="action_type_unavailable",
            hint=f"Available: {', '.join(sorted(KINDS))}.",
        )
    try:
        model: BaseModel = module.Config.model_validate(config)
    except ValidationError as error:
        raise _flawed(error) from None
    return model


def fill(kind: str, model: BaseModel, fields: dict[str, Any]) -> Any:
    """A config with these fields, rendered; raises Invalid as parse_config().

    model: of the config as it was checked before.
    """
    try:
        return KINDS[kind].fill(model, fields)
    except ValidationError as error:
        raise _flawed(error) from None


def _flawed(error: ValidationError) -> Invalid:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    return bad_field(".".join(map(str, first["loc"])), said)


def slots(kind: str, config: dict[str, Any]) -> list[Slot]:
    """The templates of such a config, opened; raises TemplateError."""
    return bounded(KINDS[kind].slots(config))


def secret_names(kind: str, config: dict[str, Any]) -> list[str]:
    """What such a config holds that may go to its destination alone; nothing of an unknown type."""
    module = KINDS.get(kind)
    return [] if module is None else list(module.secret_names(config))


def is_primary(kind: str, config: dict[str, Any]) -> bool:
    """Whether such an action delivers to the callback's own URL; never one of an unknown type."""
    module = KINDS.get(kind)
    return module is not None and bool(module.is_primary(config))
