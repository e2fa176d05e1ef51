"""Lists by keyset: newest first, by id, which holds the time. `{"items": […], "nextCursor": …}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def page(rows: Sequence[Any], limit: int, show: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A page from rows of which one more than `limit` was asked for; each shown item has an "id"."""
    items = [show(row) for row in rows[:limit]]
    return {"items": items, "nextCursor": items[-1]["id"] if len(rows) > limit else None}
