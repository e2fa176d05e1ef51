"""What all tables share: how constraints are named, which SQL type a Python type gets, keys and
times.

Keys are made by the client (UUIDv7, `shared.ids`), never by PostgreSQL. Every default of a column
stands in PostgreSQL too, so that a row written by hand is as good as one written by the models.
There are no relationships: a query says what it reads, and nothing is loaded behind one's back.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import DateTime, LargeBinary, MetaData, Numeric, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.ids import new_id
from shared.models.enums import ENUMS

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

Key = Annotated[uuid.UUID, mapped_column(primary_key=True, default=new_id)]
"""A primary key that is made when the row is written, unless it was made before."""

SCHEMA_REVISION = "0016"
"""The migration that makes the tables as these models have them."""

TRUE = text("true")
FALSE = text("false")
NOW = func.now()
EMPTY_LIST = text("'[]'::jsonb")
EMPTY_OBJECT = text("'{}'::jsonb")
EMPTY_ARRAY = text("'{}'::text[]")


MARKED = text("deleted_at IS NOT NULL")
"""Where the purge looks: few rows are marked, however many there are."""


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        uuid.UUID: Uuid(),
        str: Text(),
        bytes: LargeBinary(),
        datetime: DateTime(timezone=True),
        Decimal: Numeric(12, 2),
        list[str]: ARRAY(Text()),
        # None is SQL NULL, never the JSON null, so that IS NULL finds what has no value
        dict[str, Any]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
        **ENUMS,
    }


class Timestamps:
    """When a row was made and last changed, by PostgreSQL's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=NOW, sort_order=100)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW, onupdate=NOW, sort_order=101)
