"""What the typed models have in common: camelCase in JSON, snake_case in Python.

What comes in refuses unknown fields and never repeats a value in its errors; what goes out is made
of rows that were checked when they were written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from shared.errors import Invalid

MAX_NAME_CHARS = 200
SHOWN_ONCE = "x-shown-once"
"""In the schema of a field that only the first answer holds."""


EXAMPLE_ID = "01938c5e-8a00-7000-8000-00000000000a"
EXAMPLE_OTHER_ID = "01938c5e-8a00-7000-8000-00000000000b"
EXAMPLE_TIME = "2026-01-01T12:00:00.123456Z"


def example(**fields: Any) -> ConfigDict:
    """The example of a model in the API's description, by the names that stand in JSON (`from_` for
    `from`).
    """
    named = {name.rstrip("_"): value for name, value in fields.items()}
    return ConfigDict(json_schema_extra={"examples": [named]})


class Given(BaseModel):
    """What a caller gives."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )


class Change(Given):
    """What a caller changes: only what is given.

    NULLABLE: the fields whose value may be taken away, with null.
    """

    NULLABLE: ClassVar[frozenset[str]] = frozenset()

    def changes(self) -> dict[str, Any]:
        """The fields that were given; raises Invalid for a null where there must be a value."""
        given = self.model_dump(exclude_unset=True)
        for name, value in given.items():
            if value is None and name not in self.NULLABLE:
                raise Invalid(f"{to_camel(name)} cannot be null.")
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """As it is meant: a field that is left away stays as it is, and only some may be null."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        nullable = {to_camel(name) for name in cls.NULLABLE}
        for name, field in schema["properties"].items():
            field.pop("default", None)
            if name not in nullable and "anyOf" in field:
                choices = [choice for choice in field.pop("anyOf") if choice != {"type": "null"}]
                field |= choices[0] if len(choices) == 1 else {"anyOf": choices}
        return schema


class Shown(BaseModel):
    """What the API shows."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    def rendered(self, *, again: bool = False) -> dict[str, Any]:
        """As it stands in JSON, values still as Python has them.

        again: without what is shown only once.
        """
        left_out = {
            name
            for name, field in type(self).model_fields.items()
            if again and isinstance(field.json_schema_extra, dict) and SHOWN_ONCE in field.json_schema_extra
        }
        return self.model_dump(by_alias=True, exclude=left_out, warnings=False)


class Begun(Shown):
    """What the API shows of something that takes its time."""

    id: UUID

    @property
    def is_done(self) -> bool:
        """Whether it will not change any more."""
        raise NotImplementedError


class PageQuery(BaseModel):
    """Which part of a list: at most `limit` items after `cursor`, newest first."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    limit: int = Field(50, ge=1, le=200)
    cursor: UUID | None = None


Item = TypeVar("Item", bound=Shown)


class Page(Shown, Generic[Item]):
    """A part of a list, newest first."""

    items: list[Item]
    next_cursor: UUID | None = Field(
        None, description="Ask again with it as `cursor`; null: there is no more."
    )
    partial: bool = Field(
        False,
        exclude_if=lambda partial: not partial,
        description="True: the search stopped before the page was full. What is missing follows with `cursor`.",
    )


@dataclass(frozen=True, slots=True)
class EachOf(Generic[Item]):
    """All of a list, one JSON object to a line. page: what follows a cursor, as the list has it.

    It is asked again for each page, in a work of its own.
    """

    page: Callable[[Any, UUID | None], Page[Item]]


def _no_control_characters(value: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("control characters are not allowed")
    return value


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_no_control_characters)]
Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_no_control_characters)]


def shown_once(description: str) -> Any:
    """A field that only the first answer holds, and no repetition of it."""
    return Field(None, description=description, json_schema_extra={SHOWN_ONCE: True})
