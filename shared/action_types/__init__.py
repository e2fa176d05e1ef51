"""The pure half of each action type: what its config may hold, and how it is shown.

One file per type, each with Config (a pydantic model) and functions of a config: slots (its
templates), redact and unmask (shared/masks.py), seal and unseal (shared/seals.py), destination and
secret_names (what may go to it alone), preview, summarize, is_primary. A row holds a sealed config;
all but unseal, secret_names and is_primary take an open one. A type that is not in KINDS cannot be
created yet; worker/actions has the I/O half under equal keys.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.action_types import http_post, store
from shared.action_types.texts import RENDERED, Slot, bounded
from shared.errors import Invalid

KINDS: dict[str, ModuleType] = {
    "HTTP_POST": http_post,
    "STORE": store,
}


def parse_config(kind: str, config: Any, *, rendered: bool = False) -> BaseModel:
    """Check a config and return its model; raises Invalid naming the field and the fix.

    rendered: its templates are filled.
    """
    module = KINDS.get(kind)
    if module is None:
        raise Invalid(
            f"Actions of type {kind} are not available in this version.",
            code="action_type_unavailable",
            hint=f"Available: {', '.join(sorted(KINDS))}.",
        )
    try:
        model: BaseModel = module.Config.model_validate(config, context=RENDERED if rendered else None)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in ("config", *first["loc"]))
        raise Invalid(
            f"{where}: {first['msg']}.", code="bad_config", hint=f"Fix {where} of the action."
        ) from None
    return model


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
