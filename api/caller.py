"""A caller that waits for what becomes of its call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from api.budget import Held

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Caller:
    """One that has sent its request whole. body: what is held of the budget for that."""

    __slots__ = ("_body", "_receive")

    def __init__(self, receive: Receive, body: Held) -> None:
        self._receive = receive
        self._body = body

    def let_go_of_body(self) -> None:
        """Nobody needs it any more, however long the caller waits."""
        self._body.free()

    async def gone(self) -> None:
        """Return when it has hung up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
