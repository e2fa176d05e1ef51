"""Workers told to stop, put to sleep, or told the same thing a hundred times."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest

from shared.redis.hints import HintSender
from shared.redis.queues import FRESH, make_celery
from tests.faults.oracle import (
    no_terminal_state_was_left,
    nobody_was_lost_with_a_worker,
    nothing_was_lost,
    wait_for,
    watch_terminal_states,
)
from tests.faults.sizes import progress, size
from tests.faults.tenants import two_tenants
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.sent import unlike_any_other

STOPS = size(2, 20)
SLEEPS = size(1, 5)

# Accepted triggers.
BETWEEN = 150


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("two"), {"POINTSMAN_WORKERS": "2"}) as running:
        watch_terminal_states(running)
        yield running


def test_workers_told_to_stop_under_load_lose_nothing(two_workers: Running, receiver: Receiver) -> None:
    """Guards: drain and release; drain against claim.

    No attempt of a drained worker is worker_lost.
    """
    urls = two_tenants(two_workers, receiver, "/delay/200", "/ok")
    with BackgroundLoad(urls, connections=8, per_second=60) as load:
        for number in range(STOPS):
            wait_for(load.accepted, BETWEEN)
            before = two_workers.pid_of("worker")
            two_workers.signal("worker", "SIGTERM")
            started = time.monotonic()
            eventually(lambda: before not in two_workers.all_pids("worker"), 10, "the worker's end")  # noqa: B023
            assert time.monotonic() - started < 2 + 5, "its grace time, and a little to write and close"
            eventually(lambda: len(two_workers.all_pids("worker")) == 2, 20, "a new worker")
            progress(f"stop {number + 1} of {STOPS}")
        wait_for(load.accepted, BETWEEN)
    assert load.nobody_was_refused, (load.refused, load.begun)
    nothing_was_lost(two_workers, receiver, load.accepted)
    nobody_was_lost_with_a_worker(two_workers, load.accepted)
    no_terminal_state_was_left(two_workers)


def test_a_worker_that_slept_past_its_lease_beside_another(two_workers: Running, receiver: Receiver) -> None:
    """Two sweepers, one of which wakes up with old claims and an old lease.

    Guards: the new id of a worker that was declared dead, duties that any number of processes may
    do.
    """
    urls = two_tenants(two_workers, receiver, "/delay/100", "/ok")
    with BackgroundLoad(urls, connections=8, per_second=60) as load:
        for number in range(SLEEPS):
            wait_for(load.accepted, BETWEEN)
            asleep = two_workers.pid_of("worker")
            two_workers.signal_pid(asleep, "SIGSTOP")
            # asleep in the middle of a transaction it holds rows until PostgreSQL ends that
            eventually(lambda: _registered(two_workers) == 1, 60, "the other to declare it dead")
            two_workers.signal_pid(asleep, "SIGCONT")
            eventually(lambda: _registered(two_workers) == 2, 30, "its return under a new id")
            progress(f"sleep {number + 1} of {SLEEPS}")
        wait_for(load.accepted, BETWEEN)
    assert load.nobody_was_refused, (load.refused, load.begun)
    nothing_was_lost(two_workers, receiver, load.accepted)
    no_terminal_state_was_left(two_workers)


def _registered(running: Running) -> int:
    """How many workers have a row. A process of suspects, whose parent sleeps, has one as well."""
    ids = {str(one) for (one,) in running.query("SELECT id FROM workers")}
    return len(ids - running.suspects().keys())


def test_the_same_hint_a_hundred_times_is_one_attempt(two_workers: Running, receiver: Receiver) -> None:
    """Guards: claims that take only what is PENDING, under SKIP LOCKED."""
    callback = two_workers.callback(receiver.url("/delay/300"))
    redis_url = two_workers.redis_url
    trigger_ids = [two_workers.fire(callback, **unlike_any_other()) for _ in range(5)]

    def hint() -> None:
        with closing(HintSender(make_celery(redis_url), redis_url)) as sender:
            for _ in range(25):
                assert sender.send(FRESH, [UUID(one) for one in trigger_ids])

    threads = [threading.Thread(target=hint) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    nothing_was_lost(two_workers, receiver, trigger_ids)
    assert len(receiver.receipts) == len(trigger_ids)
    assert two_workers.query(
        "SELECT DISTINCT attempt FROM action_executions WHERE trigger_id = ANY(%s::uuid[])", trigger_ids
    ) == [(1,)]
