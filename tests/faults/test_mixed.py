"""Everything at once: chains of several kinds, failing receivers, retries, and a kill -9 of something every few seconds."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.oracle import no_terminal_state_was_left, nothing_was_lost, watch_terminal_states
from tests.faults.sizes import progress, size
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running

SECONDS = size(25.0, 300.0)
RATE = 100.0  # triggers a second
VICTIMS = ("api", "worker", "valkey", "postgres")
RETRY = {"maxAttempts": 12, "schedule": [1, 2, 4, 8, 10]}


@pytest.fixture
def watched(tmp_path: Any) -> Iterator[Running]:
    with Running(tmp_path, {"POINTSMAN_MAX_STORED_ITEMS": "1000000"}) as running:
        watch_terminal_states(running)
        yield running


def chains(running: Running, receiver: Receiver) -> list[str]:
    """Trigger URLs of ten callbacks: ordered and parallel chains; one in ten has a receiver that fails at first."""

    def post(path: str, **fields: Any) -> dict[str, Any]:
        config = {"url": receiver.url(path)}
        return {"type": "HTTP_POST", "config": config, "retry": RETRY, **fields}

    ordered = [post("/a"), post("/b")]
    parallel = [post("/a", parallel=True), post("/b", parallel=True), {"type": "STORE", "config": {}}]
    flaky = [post("/flaky/2"), post("/a")]
    made = []
    for number in range(10):
        actions = flaky if number == 9 else ordered if number % 2 else parallel
        callback = running.callback(receiver.url("/ok"), actions)
        running.primary(callback, retry=RETRY)
        made.append(str(callback["triggerUrl"]))
    return made


@pytest.mark.load
@pytest.mark.timeout(SECONDS + 300)
def test_a_mixed_load_survives_random_kills(watched: Running, receiver: Receiver) -> None:
    """Accepted ⊆ ended, no step before its predecessor, no more receipts than attempts, no terminal state left.

    Guards: all of it together.
    """
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    urls = chains(watched, receiver)
    until = time.monotonic() + SECONDS
    kills, order = 0, chance.sample(VICTIMS, len(VICTIMS))
    with BackgroundLoad(urls, connections=32, per_second=RATE) as load:
        while time.monotonic() < until:
            time.sleep(chance.uniform(5, 10))
            victim = order[kills % len(order)]  # each of them, also in a short run
            with contextlib.suppress(ProcessLookupError):
                watched.kill(victim)
                kills += 1
            progress(f"{until - time.monotonic():.0f} s left, killed {victim}, {len(load.accepted)} accepted")
    assert kills
    assert len(load.accepted) > SECONDS * RATE / 4
    nothing_was_lost(watched, receiver, load.accepted, 120)
    no_terminal_state_was_left(watched)
