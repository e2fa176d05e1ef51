"""/api/v1/stored-items."""

from __future__ import annotations

from uuid import UUID

from api.management.face import Face
from api.resources import stored_items
from api.resources.content import Content
from api.resources.stored_items import ShownStoredItem, StoredItemPage, StoredItemQuery
from api.work import Work

face = Face("stored items", "What STORE actions kept.")


@face.route("GET", "/stored-items")
def list_stored_items(work: Work, query: StoredItemQuery) -> StoredItemPage:
    """The caller's stored items, newest first, without their values."""
    return stored_items.page(work, work.owner, query)


@face.route("GET", "/stored-items/<uuid:id>")
def get_stored_item(work: Work, id: UUID) -> ShownStoredItem:
    """One stored item with its value."""
    return stored_items.find(work, work.owner, id)


@face.route("GET", "/stored-items/<uuid:id>/content")
def get_stored_item_content(work: Work, id: UUID) -> Content:
    """The value of a stored item, byte for byte."""
    return stored_items.content(work, work.owner, id)
