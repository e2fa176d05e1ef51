"""How actions and credentials look in the API's description: an action has one schema for each
type, told apart by `type`; the `meta` of a credential has one for each kind.

The models themselves take any config and any meta, so that an error can name the field and the fix.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model
from pydantic.alias_generators import to_pascal

from api.resources.actions import ActionChange, ActionPage, NewAction, ShownAction
from api.resources.credentials import CredentialChange, CredentialPage, NewCredential, ShownCredential
from shared.action_types import KINDS
from shared.action_types.retry_policy import RetryPolicy
from shared.credentials import KINDS as CREDENTIAL_KINDS


def _by_type(prefix: str, base: type[BaseModel]) -> Any:
    """The union of this model's forms, one for each type of action."""
    forms: list[Any] = []
    for kind, module in KINDS.items():
        name = f"{prefix}{to_pascal(kind.lower())}Action"
        fields: dict[str, Any] = {
            "type": (Literal[kind], ...),
            "config": (module.Config, ...),
            "retry": (RetryPolicy | None, None),
        }
        form = create_model(name, __base__=base, __doc__=f"{base.__doc__} Type {kind}.", **fields)
        form.model_config["json_schema_extra"] = {"examples": [_example(base, kind, module)]}
        forms.append(form)
    return Annotated[reduce(or_, forms), Field(discriminator="type")]


def _example(base: type[BaseModel], kind: str, module: ModuleType) -> dict[str, Any]:
    """The base's example, with a config of this type."""
    (config,) = module.Config.model_config["json_schema_extra"]["examples"]
    extra: Any = base.model_config["json_schema_extra"]
    (found,) = extra["examples"]
    summary = {"summary": module.summarize(config)} if "summary" in found else {}
    return {**found, "type": kind, "config": config, **summary}


_META: Any = reduce(or_, dict.fromkeys(kind.meta for kind in CREDENTIAL_KINDS.values()))


def _with_meta(base: type[BaseModel], default: Any = None) -> type[BaseModel]:
    """This model with the meta of each kind."""
    found: type[BaseModel] = create_model(
        base.__name__, __base__=base, __doc__=base.__doc__, meta=(_META | None, default)
    )
    return found


_SHOWN = _by_type("Shown", ShownAction)
_SHOWN_CREDENTIAL = _with_meta(ShownCredential, ...)
_CONFIG: Any = reduce(or_, (module.Config for module in KINDS.values()))
_DESCRIBED: dict[type[BaseModel], Any] = {
    NewAction: _by_type("New", NewAction),
    ShownAction: _SHOWN,
    ActionPage: create_model(
        "ActionPage",
        __base__=ActionPage,
        __doc__=ActionPage.__doc__,
        items=(list[_SHOWN], ...),  # type: ignore[valid-type]
    ),
    ActionChange: create_model(
        "ActionChange",
        __base__=ActionChange,
        __doc__=ActionChange.__doc__,
        config=(_CONFIG | None, None),
        retry=(RetryPolicy | None, None),
    ),
    NewCredential: _with_meta(NewCredential),
    CredentialChange: _with_meta(CredentialChange),
    ShownCredential: _SHOWN_CREDENTIAL,
    CredentialPage: create_model(
        "CredentialPage",
        __base__=CredentialPage,
        __doc__=CredentialPage.__doc__,
        items=(list[_SHOWN_CREDENTIAL], ...),  # type: ignore[valid-type]
    ),
}


def described(model: type[BaseModel]) -> Any:
    """The type by which a model is described: mostly itself."""
    return _DESCRIBED.get(model, model)
