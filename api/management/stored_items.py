"""What STORE actions kept: /api/v1/stored-items."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask_openapi import APIBlueprint
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from api.auth.caller import authenticate, caller
from api.management.body import IdPath, PageQuery
from api.management.content import shown
from api.management.paging import page
from api.services import services
from shared.errors import NotFound
from shared.models import Callback, StoredItem

stored_items = APIBlueprint("stored_items", __name__, url_prefix="/api/v1")
stored_items.before_request(authenticate)

_LIVES = exists().where(Callback.id == StoredItem.callback_id, Callback.deleted_at.is_(None))


class ItemQuery(PageQuery):
    """Which items: of one callback, under one key."""

    callback_id: UUID | None = None
    key: str | None = None


@stored_items.get("/stored-items")
def list_items(query: ItemQuery) -> dict[str, Any]:
    """The caller's stored items, newest first."""
    statement = select(StoredItem).where(StoredItem.user_id == caller().user_id, _LIVES)
    if query.callback_id is not None:
        statement = statement.where(StoredItem.callback_id == query.callback_id)
    if query.key is not None:
        statement = statement.where(StoredItem.key == query.key)
    if query.cursor is not None:
        statement = statement.where(StoredItem.id < query.cursor)
    with Session(services().engine) as session:
        rows = session.scalars(statement.order_by(StoredItem.id.desc()).limit(query.limit + 1)).all()
        return page(rows, query.limit, show)


@stored_items.get("/stored-items/<uuid:id>")
def get_item(path: IdPath) -> dict[str, Any]:
    """One stored item."""
    with Session(services().engine) as session:
        item = session.scalar(
            select(StoredItem).where(StoredItem.id == path.id, StoredItem.user_id == caller().user_id, _LIVES)
        )
        if item is None:
            raise NotFound("You have no such stored item.")
        return show(item)


def show(item: StoredItem) -> dict[str, Any]:
    """An item as the API shows it: its value as JSON if it is JSON, else as text, else in base64."""
    encoding, value = shown(item.content)
    return {
        "id": item.id,
        "callbackId": item.callback_id,
        "actionId": item.action_id,
        "triggerId": item.trigger_id,
        "key": item.key,
        "value": value,
        "valueEncoding": encoding,
        "contentType": item.content_type,
        "bytes": len(item.content),
        "createdAt": item.created_at,
    }
