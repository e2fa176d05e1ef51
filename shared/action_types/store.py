"""The STORE action: what its config may hold.

`{}` keeps the trigger's body as it came; `value` keeps that JSON value instead; `key` names the
item. Each text may be a template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared.action_types.passed_on import JUST_BYTES, RecordedCall
from shared.action_types.texts import Slot, slot, slots_of_values
from shared.seals import Cipher
from shared.templates.targets import Target
from shared.templates.values import to_json_text

MAX_KEY_CHARS = 128


class StoreConfig(BaseModel):
    """key: a label of 1 to 128 characters.

    value: any JSON value kept instead of the trigger's body.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"key": "last-order"}]},
    )

    key: str | None = Field(None, min_length=1, max_length=MAX_KEY_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")
    value: Any = None

    @field_validator("value")
    @classmethod
    def _json(cls, value: Any) -> Any:
        json.dumps(value, allow_nan=False)
        return value


Config = StoreConfig


def fill(config: StoreConfig, fields: Mapping[str, Any]) -> StoreConfig:
    """The config with these fields, rendered; raises ValidationError."""
    if "key" in fields:
        StoreConfig.model_validate({"key": fields["key"]})
    return config.model_copy(update=dict(fields))


def slots(config: dict[str, Any]) -> Iterator[Slot]:
    """The templates in it; raises TemplateError."""
    yield from slot(config.get("key"), Target.TEXT, "key")
    yield from slots_of_values(config.get("value"), "value")


def redact(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it may be shown: it holds no secret."""
    return config


def unmask(config: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """The config as it came: nothing of it is ever masked."""
    return config


def seal(config: dict[str, Any], encrypt: Cipher) -> dict[str, Any]:  # noqa: ARG001
    """The config as it stands in a row: it holds no secret."""
    return config


def unseal(config: dict[str, Any], decrypt: Cipher) -> dict[str, Any]:  # noqa: ARG001
    """The config of a row."""
    return config


def destination(config: dict[str, Any]) -> str | None:  # noqa: ARG001
    """Where its secrets go: it has none."""
    return None


def secret_names(config: dict[str, Any]) -> list[str]:  # noqa: ARG001
    """What it holds that may go to its destination alone: nothing."""
    return []


def preview(config: StoreConfig, recorded: RecordedCall, url: str) -> dict[str, Any]:  # noqa: ARG001
    """What would be kept. config: rendered."""
    if "value" in config.model_fields_set:
        body, content_type = to_json_text(config.value).encode(), "application/json"
    else:
        body, content_type = recorded.body, recorded.content_type or JUST_BYTES
    return {"key": config.key, "contentType": content_type, "body": body}


def summarize(config: dict[str, Any]) -> str:
    """One line for people."""
    what = "the given value" if "value" in config else "the body"
    return f"store {what}" + (f" as {config['key']}" if config.get("key") else "")


def is_primary(config: dict[str, Any]) -> bool:  # noqa: ARG001
    """Whether it delivers to the callback's own URL: it delivers to nobody."""
    return False
