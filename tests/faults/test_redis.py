"""Redis down, paused, full, read-only, forgetful, or restarted again and again.

Nobody restarts anything of Pointsman.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from shared.redis.hints import MAX_LANE_MESSAGES
from shared.redis.queues import FRESH, KEY_PREFIX
from tests.faults.conftest import OnOutsideServers, on_outside_servers
from tests.faults.oracle import nothing_was_lost
from tests.faults.sizes import progress, size
from tests.faults.tenants import two_tenants
from tests.load import BackgroundLoad, Load, send
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.sent import unlike_any_other
from worker.app import HINT_THREADS

OUTAGE_SECONDS = size(20.0, 60.0)
LONG_OUTAGE_SECONDS = size(20.0, 300.0)
RESTARTS = size(4, 20)
QUEUED = size(2_000, 10_000)

# Triggers a second, beside the fault.
RATE = 50.0

# 99 of 100, on a busy machine; the benchmark has the figure.
WORST_ANSWER_SECONDS = 1.0
ANY_CONNECTION, ACKNOWLEDGE = b"", b"HDEL"

# Less than the sweep takes to find a lost hint: so a hint was taken.
PROMPT_SECONDS = 2.0


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path_factory.mktemp("outside")) as made:
        yield made


def client(outside: OnOutsideServers) -> redis.Redis:
    return redis.Redis.from_url(outside.valkey.url, socket_timeout=10)


def hints_are_taken_again(running: Running, callback: dict[str, Any], seconds: float = 60.0) -> None:
    """Wait until a trigger ends sooner than without Redis."""

    def prompt() -> bool:
        started = time.monotonic()
        running.ended(running.fire(callback), 30)
        return time.monotonic() - started < PROMPT_SECONDS

    eventually(prompt, seconds, "deliveries by hint again")


def _setting(valkey: redis.Redis, name: str) -> str:
    return str(valkey.config_get(name)[name])


def down(outside: OnOutsideServers) -> Iterator[None]:
    outside.kill_valkey()
    yield
    outside.start_valkey()


def frozen(outside: OnOutsideServers) -> Iterator[None]:
    os.kill(outside.valkey_process.pid, signal.SIGSTOP)
    yield
    os.kill(outside.valkey_process.pid, signal.SIGCONT)


def paused(outside: OnOutsideServers) -> Iterator[None]:
    with closing(client(outside)) as valkey:
        valkey.client_pause(int((OUTAGE_SECONDS + 30) * 1000), all=False)
        yield
        valkey.client_unpause()


def full(outside: OnOutsideServers) -> Iterator[None]:
    with closing(client(outside)) as valkey:
        before = _setting(valkey, "maxmemory")
        valkey.config_set("maxmemory", "1")
        yield
        valkey.config_set("maxmemory", before)


def read_only(outside: OnOutsideServers) -> Iterator[None]:
    with closing(client(outside)) as valkey:
        valkey.replicaof("127.0.0.1", "1")
        yield
        valkey.replicaof("NO", "ONE")


def unable_to_save(outside: OnOutsideServers) -> Iterator[None]:
    """MISCONF: a snapshot has failed, so that writes are refused."""
    with closing(client(outside)) as valkey:
        in_the_way = Path(_setting(valkey, "dir")) / _setting(valkey, "dbfilename")
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        valkey.config_set("save", "3600 1")
        valkey.bgsave()
        eventually(lambda: valkey.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "a failed save")
        with pytest.raises(redis.RedisError, match="MISCONF"):
            valkey.set("x", "y")
        yield
        in_the_way.rmdir()
        valkey.config_set("save", "")


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [
        pytest.param(trouble, LONG_OUTAGE_SECONDS if trouble is down else OUTAGE_SECONDS, id=trouble.__name__)
        for trouble in (down, frozen, paused, full, read_only, unable_to_save)
    ],
)
def test_while_redis_is_in_trouble_everything_is_accepted_and_delivered(
    outside: OnOutsideServers,
    receiver: Receiver,
    trouble: Callable[[OnOutsideServers], Iterator[None]],
    seconds: float,
) -> None:
    """Guards: hints that fail open behind a breaker, the sweep that offers to its own engine,
    connecting again.
    """
    callback = outside.running.callback(receiver.url("/ok"))
    hints_are_taken_again(outside.running, callback)
    urls = two_tenants(outside.running, receiver, "/ok", "/ok")
    before = {name: pid for name, pid in outside.running.pids().items() if name in ("api", "worker")}
    with (
        BackgroundLoad(urls, connections=8, per_second=RATE) as load,
        contextlib.contextmanager(trouble)(outside),
    ):
        time.sleep(seconds)
        progress(f"{len(load.accepted)} accepted during {trouble.__name__}")
        amid = outside.running.fire(callback)
        assert outside.running.ended(amid, 15)["status"] == "SUCCESS", "deliveries go on meanwhile"
        if trouble in (full, unable_to_save):
            assert not says_that_redis_answers(outside), "it answers a PING and takes no writes"
    assert load.nobody_was_refused, (load.refused, load.begun)
    assert load.begun > seconds * RATE / 2, "callers came all the time"
    assert load.percentile(0.99) < WORST_ANSWER_SECONDS
    nothing_was_lost(outside.running, receiver, load.accepted, 60)
    hints_are_taken_again(outside.running, callback)
    after = outside.running.pids()
    assert {name: after[name] for name in before} == before, "nothing was restarted"


def test_redis_restarted_again_and_again(outside: OnOutsideServers, receiver: Receiver) -> None:
    """Guards: consumers that connect again, however often (a Celery that stops consuming would show
    as slowness).
    """
    callback = outside.running.callback(receiver.url("/ok"))
    urls = two_tenants(outside.running, receiver, "/ok", "/ok")
    with BackgroundLoad(urls, connections=8, per_second=RATE) as load:
        for number in range(RESTARTS):
            outside.kill_valkey()
            time.sleep(0.5)
            outside.start_valkey()
            time.sleep(1.5)
            progress(f"restart {number + 1} of {RESTARTS}")
    assert load.nobody_was_refused, (load.refused, load.begun)
    nothing_was_lost(outside.running, receiver, load.accepted, 60)
    hints_are_taken_again(outside.running, callback)


def test_a_hint_whose_acknowledgement_is_cut_fills_no_place(
    outside: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: the consumer that connects again when it cannot acknowledge (HintRequest).

    Celery itself goes on with such a message in hand, and after as many as it has places asks for
    no other hint.
    """
    callback = outside.running.callback(receiver.url("/ok"))
    hints_are_taken_again(outside.running, callback)
    accepted = []
    for _ in range(2 * HINT_THREADS):
        cut = outside.valkey_proxy.cut_at(ANY_CONNECTION, ACKNOWLEDGE, after_answer=False)
        accepted.append(outside.running.fire(callback, **unlike_any_other()))
        assert cut.happened.wait(10), "no hint was acknowledged any more"
    nothing_was_lost(outside.running, receiver, accepted)
    hints_are_taken_again(outside.running, callback, 20)


def test_redis_forgets_a_long_queue(outside: OnOutsideServers, receiver: Receiver) -> None:
    """Guards: the sweep of lost hints, which drains a backlog at the usual rate."""
    usual = _drain(outside, receiver, forget=False)
    swept = _drain(outside, receiver, forget=True)
    progress(f"drained {usual:.0f}/s with hints, {swept:.0f}/s by the sweep")
    assert swept >= usual * 0.5


def _drain(outside: OnOutsideServers, receiver: Receiver, *, forget: bool) -> float:
    """Let a queue gather, drain it, and say how many triggers settled in a second in its middle
    part.
    """
    running = outside.running
    callback = running.callback(receiver.url("/ok"))
    before = len(receiver.receipts)
    running.signal("worker", "SIGSTOP")
    load = asyncio.run(send(callback["triggerUrl"], QUEUED, 16, Load()))
    assert load.nobody_was_refused, (load.refused, load.begun)
    if forget:
        with closing(client(outside)) as valkey:
            valkey.flushall()
        due = "SELECT NOT EXISTS (SELECT FROM runs WHERE status = 'PENDING' AND hint_at > now())"
        eventually(
            lambda: running.query(due)[0][0],
            30,
            "all to be due: till then it is their coming that is measured",
        )
    running.signal("worker", "SIGCONT")
    nothing_was_lost(running, receiver, load.accepted, 120)
    assert len(receiver.receipts) - before >= QUEUED
    ((early, late),) = running.query(
        "SELECT percentile_disc(0.1) WITHIN GROUP (ORDER BY created_at), percentile_disc(0.9) WITHIN GROUP (ORDER BY created_at)"
        " FROM logs WHERE callback_id = %s",
        callback["id"],
    )
    return float(0.8 * QUEUED / (late - early).total_seconds())


def test_without_workers_the_lane_stays_short_and_all_is_delivered_when_one_comes(
    outside: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: the bound of a lane, which else fills Redis within a weekend; hints that were dropped
    or held back are sent when there is room.
    """
    running = outside.running
    urls = two_tenants(running, receiver, "/ok", "/ok")
    running.signal("worker", "SIGSTOP")
    dropped, longest = hints_dropped(running), 0
    with closing(client(outside)) as valkey, BackgroundLoad(urls, connections=8) as load:

        def has_dropped_many() -> bool:
            nonlocal longest
            longest = max(longest, int(valkey.llen(KEY_PREFIX + FRESH)))
            return hints_dropped(running) - dropped > 100

        eventually(has_dropped_many, 60, "hints that found the lane full")
    assert load.nobody_was_refused, (load.refused, load.begun)
    assert longest == MAX_LANE_MESSAGES
    running.signal("worker", "SIGCONT")
    nothing_was_lost(running, receiver, load.accepted, 120)


def hints_dropped(running: Running) -> float:
    text = httpx.get(f"{running.url}/metrics", trust_env=False).text
    found = re.search("^pointsman_hints_dropped_total ([0-9.e+]+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_readiness_says_that_redis_is_away(outside: OnOutsideServers) -> None:
    """Degraded, not down: everything is accepted and delivered."""

    eventually(lambda: says_that_redis_answers(outside), 10, "readiness with Redis")
    outside.kill_valkey()
    eventually(lambda: not says_that_redis_answers(outside), 10, "readiness without Redis")
    outside.start_valkey()
    eventually(lambda: says_that_redis_answers(outside), 10, "readiness with Redis again")


def says_that_redis_answers(outside: OnOutsideServers) -> bool:
    answer = httpx.get(f"{outside.running.url}/readyz", trust_env=False)
    assert answer.status_code == 200, "degraded, not down"
    return bool(answer.json()["checks"]["redis"])
