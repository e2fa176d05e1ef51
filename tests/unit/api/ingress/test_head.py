"""HEAD of a trigger URL, with a resolver that a test controls."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast
from uuid import UUID

import pytest

from api.deadlines import Deadlines
from api.ingress.head import head
from api.ingress.parts import IngressParts
from api.ingress.resolve import Snapshot
from shared import metrics
from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.errors import Forbidden, NotFound, Unavailable

ACTIVE = Snapshot(UUID(int=1), UUID(int=2), True, 30_000, 0)


class Slow:
    """Finds what it was given, or never anything."""

    def __init__(self, callback: Snapshot | None) -> None:
        self._callback = callback

    async def find(self, address: str) -> Snapshot:
        if self._callback is None:
            await asyncio.sleep(10)
            raise NotFound(address)
        return self._callback


def head_of(resolver: Slow) -> tuple[int, dict[str, str], bytes]:
    """There is nothing but a resolver: whoever would record something fails."""
    nothing = cast(Any, None)
    own = IngressParts(
        settings=Settings(),
        secrets=SecretBox(new_key()),
        database=nothing,
        urls=nothing,
        deadline=Deadlines(0.1),
        resolver=cast(Any, resolver),
        loops=nothing,
        recorder=nothing,
        large_recorder=nothing,
        outcomes=nothing,
        threads=nothing,
    )
    status, headers, body = asyncio.run(head("/t/x", "r", own))
    assert isinstance(body, bytes)
    return status, dict(headers), body


def test_an_active_callback_is_200_without_a_body() -> None:
    assert head_of(Slow(ACTIVE)) == (200, {"cache-control": "no-store", "x-request-id": "r"}, b"")


def test_who_is_told_no_counts_as_no_refused_trigger() -> None:
    counted = metrics.triggers_refused.labels("callback_inactive")._value.get()
    with pytest.raises(Forbidden):
        head_of(Slow(dataclasses.replace(ACTIVE, active=False)))
    assert metrics.triggers_refused.labels("callback_inactive")._value.get() == counted


def test_a_look_has_the_deadline_of_a_call() -> None:
    with pytest.raises(Unavailable):
        head_of(Slow(None))
