"""What one batch of two tenants comes to, on a real PostgreSQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from api.ingress.record import NewTrigger, Recorded, Recorder
from shared.redis.hints import HintPublisher
from tests.integration.ingress.test_record import made_of, new_trigger
from tests.world import World

_RECORDED = """
SELECT t.id, t.callback_id, t.user_id, t.method, t.path, t.query, t.headers, t.content_type, t.body,
  host(t.source_ip), t.idempotency_key, r.callback_id, r.user_id, r.awaited
FROM triggers t JOIN runs r ON r.trigger_id = t.id ORDER BY t.id
"""


class Asking:
    """Takes hints and asks PostgreSQL, over a connection of its own, which of them it can see."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.offered: list[UUID] = []
        self.committed: list[UUID] = []

    def offer(self, _lane: str, ids: Sequence[UUID]) -> None:
        self.offered += ids
        self._cursor.execute("SELECT trigger_id FROM runs JOIN triggers ON id = trigger_id")
        self.committed += [row[0] for row in self._cursor.fetchall()]


@pytest.fixture
def asking(connect: Callable[..., Any]) -> Asking:
    return Asking(connect().cursor())


@pytest.fixture
def recorder(world: World, asking: Asking) -> Iterator[Recorder]:
    publisher = cast(HintPublisher, asking)
    recorder = Recorder(world.database_url, publisher, call_seconds=3, first_hint_seconds=5)
    yield recorder
    recorder.stop()


def distinct(tenant: World, number: int, *, keyed: bool) -> NewTrigger:
    """A call that has nothing in common with those of other numbers."""
    made = new_trigger(
        tenant,
        key=made_of(f"key {number}") if keyed else None,
        method=("POST", "PUT", "PATCH", "DELETE")[number % 4],
        path=f"/t/{number}",
        query=f"n={number}",
        headers=f'[["n", "{number}"]]',
        content_type=f"text/{number}",
        body=b"\x00%d" % number,
        source_ip=f"127.0.0.{number + 1}",
    )
    return dataclasses.replace(made, wait_seconds=number % 3)


def as_recorded(trigger: NewTrigger) -> tuple[Any, ...]:
    call, callback = trigger.call, trigger.callback
    names = (callback.callback_id, callback.user_id)
    number = call.body.decode()[1:]
    key = f"key {number}" if trigger.key else None
    told = (call.method, call.path, call.query, [["n", number]], call.content_type, call.body, call.source_ip)
    return (trigger.id, *names, *told, key, *names, trigger.wait_seconds > 0)


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_each_call_stands_under_its_own_trigger_and_tenant(
    world: World, stranger: World, recorder: Recorder, keyed: bool
) -> None:
    """Fails when one column of the batch is in another order than the rest."""
    batch = [distinct((world, stranger)[n % 2], n, keyed=keyed) for n in range(8)]

    assert recorder.flush(batch) == [Recorded(one.id) for one in batch]

    found = [(*row[:8], bytes(row[8]), *row[9:]) for row in world.ask(_RECORDED)]
    assert found == sorted((as_recorded(one) for one in batch), key=lambda row: row[0])


def test_with_and_without_keys_each_caller_hears_of_its_own(
    world: World, stranger: World, recorder: Recorder
) -> None:
    """They go in two transactions. Fails when the answers are put together in another order."""
    batch = [distinct((world, stranger)[n % 2], n, keyed=n % 3 == 0) for n in range(8)]
    assert recorder.flush(batch) == [Recorded(one.id) for one in batch]


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_a_hint_leaves_after_the_commit_of_what_it_names(
    world: World, recorder: Recorder, asking: Asking, keyed: bool
) -> None:
    """Fails when it leaves before: a quick worker would look for a run that is not there yet."""
    batch = [distinct(world, n, keyed=keyed) for n in range(3)]
    recorder.flush(batch)
    assert sorted(asking.offered) == sorted(asking.committed) == sorted(one.id for one in batch)
