"""Stored items: what STORE actions kept.

Invariant: a list carries no values, however large they are: a page of them would fill the process's memory.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, exists, func, select

from api.resources import callbacks
from api.resources.content import Encoding, shown
from api.resources.history import not_deleted
from api.resources.paging import Source, walk
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Page, PageQuery, Shown, example
from api.work import Work
from shared.errors import NotFound
from shared.models import Callback, StoredItem


class StoredItemQuery(PageQuery):
    """Which items: of one callback, under one key."""

    callback_id: UUID | None = None
    key: str | None = None


_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "callbackId": EXAMPLE_OTHER_ID,
    "actionId": EXAMPLE_OTHER_ID,
    "triggerId": EXAMPLE_OTHER_ID,
    "key": "last-order",
    "contentType": "application/json",
    "bytes": 13,
    "createdAt": EXAMPLE_TIME,
}


class ListedStoredItem(Shown):
    """A stored item without its value."""

    model_config = example(**_EXAMPLE)

    id: UUID
    callback_id: UUID
    action_id: UUID
    trigger_id: UUID
    key: str | None
    content_type: str | None
    bytes: int
    created_at: datetime


class ShownStoredItem(ListedStoredItem):
    """A stored item: its value as JSON if it is JSON, else as text, else in base64."""

    model_config = example(**_EXAMPLE, value={"order": 42}, valueEncoding="json")

    value: Any
    value_encoding: Encoding


class StoredItemPage(Page[ListedStoredItem]):
    """Stored items, newest first."""


_LIVES = exists().where(Callback.id == StoredItem.callback_id, Callback.deleted_at.is_(None))


def find(work: Work, owner: UUID, item_id: UUID) -> ShownStoredItem:
    """One stored item with its value; raises NotFound."""
    row = work.session.execute(
        _select(StoredItem.content).where(StoredItem.id == item_id, StoredItem.user_id == owner, _LIVES)
    ).first()
    if row is None:
        raise NotFound("You have no such stored item.")
    encoding, value = shown(row.content)
    return ShownStoredItem(**_fields(row), value=value, value_encoding=encoding)


def page(work: Work, owner: UUID, query: StoredItemQuery) -> StoredItemPage:
    """The owner's stored items, newest first, without their values."""
    if query.callback_id is not None and not callbacks.is_own(work.session, owner, query.callback_id):
        return StoredItemPage(items=[])
    keys = walk(work.session, [_source(owner, query)], query.limit)
    rows = work.session.execute(_select().where(StoredItem.id.in_(keys.ids)).order_by(StoredItem.id.desc()))
    return StoredItemPage(items=[ListedStoredItem(**_fields(row)) for row in rows], **keys.around)


def _source(owner: UUID, query: StoredItemQuery) -> Source:
    entries = select(StoredItem.id.label("id"), StoredItem.callback_id, StoredItem.key)
    if query.callback_id is None:
        entries = entries.where(StoredItem.user_id == owner)
    else:
        entries = entries.where(StoredItem.callback_id == query.callback_id)
    if query.cursor is not None:
        entries = entries.where(StoredItem.id < query.cursor)

    def conditions(columns: Any) -> list[Any]:
        wanted = [not_deleted(columns.callback_id, owner)]
        return [*wanted, columns.key == query.key] if query.key is not None else wanted

    return Source(entries, conditions)


def _select(*more: Any) -> Select[Any]:
    return select(
        StoredItem.id,
        StoredItem.callback_id,
        StoredItem.action_id,
        StoredItem.trigger_id,
        StoredItem.key,
        StoredItem.content_type,
        func.octet_length(StoredItem.content).label("bytes"),
        StoredItem.created_at,
        *more,
    )


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "callback_id": row.callback_id,
        "action_id": row.action_id,
        "trigger_id": row.trigger_id,
        "key": row.key,
        "content_type": row.content_type,
        "bytes": row.bytes,
        "created_at": row.created_at,
    }
