"""What request models have in common: camelCase in JSON, snake_case in Python, unknown fields refused."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    """A request body. str values are stripped of nothing; NUL is refused wherever text is stored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )


class IdPath(BaseModel):
    """The id in a path."""

    id: UUID


class PageQuery(BaseModel):
    """Which part of a list: at most `limit` items after `cursor`, newest first."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    limit: int = Field(50, ge=1, le=200)
    cursor: UUID | None = None
