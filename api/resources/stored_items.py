"""Stored items: what STORE actions kept.

Invariant: a list carries no values, however large they are: a page of them would fill the process's
memory.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from api.resources import callbacks
from api.resources.content import Content, Encoding, beginning, is_coded, shown, whole
from api.resources.history import callback_lives, not_deleted
from api.resources.paging import Source, Statement, only, walk
from api.resources.shapes import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Page, PageQuery, Shown, example
from api.work import Work
from shared.errors import NotFound
from shared.models import StoredItem


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
    "contentEncoding": None,
    "contentLanguage": None,
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
    content_encoding: str | None
    content_language: str | None
    bytes: int
    created_at: datetime


class ShownStoredItem(ListedStoredItem):
    """A stored item: its value as the text that it is, or in base64 where it is no text.

    A value with a Content-Encoding is no text.
    truncated: it is the first 64 KiB; `/stored-items/{id}/content` gives all of it.
    """

    model_config = example(**_EXAMPLE, value='{"order": 42}', valueEncoding="text", truncated=False)

    value: str
    value_encoding: Encoding
    truncated: bool


class StoredItemPage(Page[ListedStoredItem]):
    """Stored items, newest first."""


def find(work: Work, owner: UUID, item_id: UUID) -> ShownStoredItem:
    """One stored item with its value; raises NotFound."""
    row = _own(work.session, owner, item_id, beginning(StoredItem.content).label("beginning"))
    fields = dict(row._mapping)
    coded = is_coded([("content-encoding", row.content_encoding or "")])
    encoding, value, truncated = shown(fields.pop("beginning"), row.bytes, is_coded=coded)
    return ShownStoredItem(**fields, value=value, value_encoding=encoding, truncated=truncated)


def content(work: Work, owner: UUID, item_id: UUID) -> Content:
    """The value as it was stored; raises NotFound, and Unavailable as whole() does."""
    size = _own(work.session, owner, item_id).bytes
    return whole(work, StoredItem.content, StoredItem.id == item_id, size)


def page(work: Work, owner: UUID, query: StoredItemQuery) -> StoredItemPage:
    """The owner's stored items, newest first, without their values."""
    if query.callback_id is not None and not callbacks.is_own(work.session, owner, query.callback_id):
        return StoredItemPage(items=[])
    keys = walk(work.session, [_source(owner, query)], query.limit)
    mine = _select(owner).where(StoredItem.id.in_(keys.ids))
    rows = work.session.execute(mine.order_by(StoredItem.id.desc()))
    items = [ListedStoredItem(**row._mapping) for row in rows]
    return StoredItemPage(items=items, next_cursor=keys.next_cursor, partial=keys.is_partial)


def _own(session: Session, owner: UUID, item_id: UUID, *columns: Any) -> Row[Any]:
    """The owner's item with this id, and more columns; raises NotFound."""
    statement = _select(owner, *columns).where(
        StoredItem.id == item_id, callback_lives(StoredItem.callback_id)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        raise NotFound("You have no such stored item.")
    return found


def _source(owner: UUID, query: StoredItemQuery) -> Source:
    column: Any = StoredItem.user_id if query.callback_id is None else StoredItem.callback_id
    entries: Statement = select(StoredItem.id.label("id"), StoredItem.callback_id, StoredItem.key)
    entries = entries.where(*only(column, query.callback_id or owner))
    if query.cursor is not None:
        entries = entries.where(StoredItem.id < query.cursor)

    def conditions(columns: Any) -> list[Any]:
        wanted = [not_deleted(columns.callback_id, owner)]
        return [*wanted, columns.key == query.key] if query.key is not None else wanted

    return Source(entries.order_by(column.desc(), StoredItem.id.desc()), conditions)


def _select(owner: UUID, *more: Any) -> Select[Any]:
    """The owner's items without their values, and more columns."""
    return select(
        StoredItem.id,
        StoredItem.callback_id,
        StoredItem.action_id,
        StoredItem.trigger_id,
        StoredItem.key,
        StoredItem.content_type,
        StoredItem.content_encoding,
        StoredItem.content_language,
        func.octet_length(StoredItem.content).label("bytes"),
        StoredItem.created_at,
        *more,
    ).where(StoredItem.user_id == owner)
