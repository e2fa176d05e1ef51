"""STORE's items on a real PostgreSQL: kept once, capped in number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from shared.errors import Invalid
from shared.ids import new_id
from tests.peers.proxy import Proxy
from tests.world import World
from worker.doors import CLOSE_SECONDS
from worker.doors.storage import NewItem, Storage


@pytest.fixture
def storage(world: World) -> Iterator[Storage]:
    storage = Storage(world.database_url)
    asyncio.run(storage.open())
    yield storage
    asyncio.run(storage.close())


def new_item(world: World, max_items: int = 100) -> NewItem:
    return NewItem(
        user_id=world.user_id,
        callback_id=world.callback_id,
        action_id=new_id(),
        trigger_id=new_id(),
        key="k",
        content=b"\x00\xff",
        content_type=None,
        max_items=max_items,
        timeout_ms=5_000,
    )


def test_an_item_is_kept_once_however_often_its_attempt_is_made(world: World, storage: Storage) -> None:
    """Fails without the unique (trigger_id, action_id)."""
    item = new_item(world)

    async def twice() -> None:
        await storage.store(item)
        await storage.store(replace(item, content=b"second"))

    asyncio.run(twice())
    assert [bytes(row[0]) for row in world.ask("SELECT content FROM stored_items")] == [b"\x00\xff"]


def test_an_item_keeps_what_its_bytes_came_under(world: World, storage: Storage) -> None:
    """Fails when a column is written under another's name."""
    item = replace(new_item(world), content_type="t", content_encoding="c", content_language="l")
    asyncio.run(storage.store(item))
    columns = "key, content, content_type, content_encoding, content_language"
    ((key, content, *rest),) = world.ask(f"SELECT {columns} FROM stored_items")
    assert (key, bytes(content), rest) == ("k", b"\x00\xff", ["t", "c", "l"])


def test_beyond_the_cap_an_item_is_refused_with_the_fix(world: World, storage: Storage) -> None:
    """Fails without the count: within one batch and over several."""

    async def store_all() -> list[BaseException | None]:
        items = [new_item(world, max_items=3) for _ in range(5)]
        return await asyncio.gather(*map(storage.store, items), return_exceptions=True)

    outcomes = asyncio.run(store_all())
    refused = [outcome for outcome in outcomes if isinstance(outcome, Invalid)]
    assert (len(refused), refused[0].code) == (2, "too_many_items")
    assert "POINTSMAN_MAX_STORED_ITEMS" in refused[0].hint
    assert world.rows.count("stored_items") == 3
    assert len([o for o in asyncio.run(store_all()) if isinstance(o, Invalid)]) == 5


def test_an_item_stored_by_an_earlier_attempt_succeeds_at_the_cap(world: World, storage: Storage) -> None:
    """Fails when the cap is asked first: after an ambiguous COMMIT a stored item would count as
    refused.
    """
    item = new_item(world, max_items=1)

    async def twice() -> None:
        await storage.store(item)
        await storage.store(item)

    asyncio.run(twice())
    assert world.rows.count("stored_items") == 1


def test_another_users_items_do_not_count(world: World, storage: Storage) -> None:
    other = World(world.database_url, world.cursor)

    async def store_both() -> None:
        await storage.store(new_item(other, max_items=1))
        await storage.store(new_item(world, max_items=1))

    asyncio.run(store_both())
    assert world.rows.count("stored_items") == 2


def test_a_postgres_that_answers_nothing_does_not_keep_it_open(world: World) -> None:
    """Fails when the connection is closed under its thread's call: that waits until the watchdog
    cuts it.
    """
    parts = urlsplit(world.database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    with Proxy(parts.hostname, parts.port) as proxy:
        storage = Storage(world.database_url.replace(f":{parts.port}", f":{proxy.port}"))

        async def live() -> float:
            await storage.open()
            await storage.store(new_item(world))
            proxy.stall()
            storing = asyncio.create_task(storage.store(new_item(world)))
            await asyncio.sleep(0)
            started = time.monotonic()
            await storage.close()
            storing.cancel()
            return time.monotonic() - started

        assert asyncio.run(live()) < CLOSE_SECONDS
