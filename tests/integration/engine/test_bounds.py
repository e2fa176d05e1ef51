"""What a worker may take at most: time for an attempt, room for bodies, grace when it stops.

A whole engine on a real PostgreSQL, which calls a receiver on loopback through the door of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config import MiB, Settings
from shared.crypto import SecretBox, new_key
from shared.ids import new_id
from tests.made_kind import MADE_TYPE, Megaphone, register
from tests.peers.receiver import Receiver
from tests.running import eventually
from tests.world import World
from worker.engine.engine import Engine

LIMIT_MS = 2_000

# Uvloop rounds its timers to ms, and may be early by one.
CLOCK_SLACK_MS = 10
BODY_BYTES = 3 * MiB - 1_000

# What a delivery takes that a grace time of GRACE_SECONDS lets end.
DELIVERY_MS, GRACE_SECONDS = 1_000, 10.0


@contextmanager
def engine(world: World, **settings: Any) -> Iterator[Engine]:
    urls = {"database_url": SecretStr(world.database_url), "redis_url": SecretStr("redis://127.0.0.1:1/0")}
    made = Engine(Settings(**urls, egress_allow="127.0.0.0/8", **settings), SecretBox(new_key()))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def post(tenant: World, url: str, **fields: Any) -> None:
    once = json.dumps({"maxAttempts": 1})
    tenant.action(config=json.dumps({"url": url}), retry=once, **fields)


def test_an_attempt_ends_at_its_callbacks_time_limit(
    world: World, stranger: World, receiver: Receiver
) -> None:
    """Fails when the limit is longer than was asked for, or another tenant's, also when an answer
    comes bit by bit.
    """
    for path in ("/hang", "/drip"):
        post(world, receiver.url(path), parallel=True)
    post(stranger, receiver.url("/hang"))
    limit = "UPDATE callbacks SET timeout_duration = %s WHERE id = %s"
    world.do(limit, LIMIT_MS, world.callback_id)
    world.do(limit, 2 * LIMIT_MS, stranger.callback_id)
    mine, theirs = world.trigger(), stranger.trigger()
    with engine(world) as one:
        assert one.offer([mine, theirs], 5)
        eventually(lambda: world.log(mine) and world.log(theirs), 3 * LIMIT_MS / 1000 + 5, "both ends")
    for tenant, trigger_id, limit_ms in ((world, mine, LIMIT_MS), (stranger, theirs, 2 * LIMIT_MS)):
        for row in tenant.executions(trigger_id):
            assert row["error"].startswith("timeout: ")
            assert limit_ms - CLOCK_SLACK_MS <= row["duration_ms"] < limit_ms + LIMIT_MS / 2


class Closed(Megaphone):
    """A door behind which everybody waits until it is opened."""

    made: Closed

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    @classmethod
    def make(cls, settings: Settings) -> Closed:
        cls.made = cls()
        return cls.made

    async def say(self, word: str, number: int) -> None:
        while not self.opened.is_set():
            await asyncio.sleep(0.01)
        await super().say(word, number)


def test_a_worker_holds_no_more_bodies_than_fit(
    world: World, stranger: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only the runs are counted: a few hundred of the largest bodies would take all
    memory.
    """
    register(monkeypatch).DOOR = Closed
    ids = []
    for tenant in (world, stranger):
        tenant.action(type=MADE_TYPE, config=json.dumps({"say": "hello"}))
        ids += [tenant.trigger() for _ in range(3)]
    world.do("UPDATE triggers SET body = %s", b"x" * BODY_BYTES)
    running = "SELECT count(*) FROM runs WHERE status = 'RUNNING'"
    with engine(world, capacity_bytes=8 * MiB, max_body_bytes=3 * MiB) as one:
        offering = threading.Thread(target=one.offer, args=(ids, 30))
        offering.start()
        eventually(lambda: world.ask(running) == [(2,)], 10, "two runs, which is what fits")
        assert not one._room.fitting(new_id(), 1, BODY_BYTES), "no room for another of three MiB"
        Closed.made.opened.set()
        eventually(lambda: world.rows.count("runs") == 0, 20, "the end of all, one after the other")
        offering.join(5)
    assert len(Closed.made.said) == len(ids)


def test_a_worker_that_stops_lets_its_deliveries_end(
    world: World, stranger: World, receiver: Receiver
) -> None:
    """Fails without the grace time: every restart would repeat what was under way."""
    ids = []
    for tenant in (world, stranger):
        post(tenant, receiver.url(f"/delay/{DELIVERY_MS}"))
        ids.append(tenant.trigger())
    with engine(world, drain_seconds=GRACE_SECONDS) as one:
        assert one.offer(ids, 5)
        eventually(lambda: len(receiver.receipts) == 2, 5, "both deliveries")
    for trigger_id in ids:
        (row,) = world.executions(trigger_id)
        assert (row["status"], row["attempt"], row["history"]) == ("SUCCESS", 1, [])


def test_a_worker_that_stops_waits_no_longer_than_its_grace_time(world: World, receiver: Receiver) -> None:
    """And what has not ended is given back."""
    post(world, receiver.url("/hang"))
    trigger_id = world.trigger()
    with engine(world, drain_seconds=2.0) as one:
        assert one.offer([trigger_id], 5)
        eventually(lambda: receiver.receipts, 5, "the delivery")
        started = time.monotonic()
        one.stop()
        assert 2.0 <= time.monotonic() - started < 3.5
    (row,) = world.executions(trigger_id)
    assert (row["status"], [entry["outcome"] for entry in row["history"]]) == ("PENDING", ["released"])
