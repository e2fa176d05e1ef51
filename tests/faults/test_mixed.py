"""Everything at once: chains of several kinds, failing receivers, retries, and a kill -9 of
something every few seconds.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from tests.faults.oracle import no_terminal_state_was_left, nothing_was_lost, watch_terminal_states
from tests.faults.sizes import progress, size
from tests.faults.tenants import other_tenant
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running

SECONDS = size(25.0, 300.0)

# Triggers a second.
RATE = 100.0
VICTIMS = ("api", "worker", "valkey", "postgres")

# And of those that end FAILED.
REFUSED_RATE = 10.0
NEVER = "/never"
RETRY = {"maxAttempts": 12, "schedule": [1, 2, 4, 8, 10]}


@pytest.fixture
def watched(tmp_path: Any) -> Iterator[Running]:
    with Running(tmp_path, {"POINTSMAN_MAX_STORED_ITEMS": "1000000"}) as running:
        watch_terminal_states(running)
        yield running


def post(receiver: Receiver, path: str, of: str, **fields: Any) -> dict[str, Any]:
    """An action that posts to this path of the receiver.

    of: tells it from those of other callbacks.
    """
    path = f"{path}?of={of}"
    config = {"url": receiver.url(path)}
    return {"type": "HTTP_POST", "config": config, "retry": RETRY, **fields}


def chains(running: Running, receiver: Receiver) -> list[str]:
    """Trigger URLs of ten callbacks of two tenants: ordered and parallel chains; one in ten has a
    receiver that fails at first.
    """
    made = []
    with other_tenant(running) as other:
        for number in range(10):
            of = str(number)
            ordered = [post(receiver, "/a", of), post(receiver, "/b", of)]
            parallel = [
                post(receiver, "/a", of, parallel=True),
                post(receiver, "/b", of, parallel=True),
                {"type": "STORE", "config": {}},
            ]
            flaky = [post(receiver, "/flaky/2", of), post(receiver, "/a", of)]
            actions = flaky if number == 9 else ordered if number % 2 else parallel
            api = other if number % 4 < 2 else running.api
            callback = running.callback(receiver.url(f"/ok?of={of}"), actions, api=api)
            running.primary_as(api, callback, {"retry": RETRY})
            made.append(str(callback["triggerUrl"]))
    return made


def refused_chain(running: Running, receiver: Receiver) -> str:
    """The trigger URL of a callback whose second of three steps fails for good."""
    actions = [post(receiver, "/status/400", "refused"), post(receiver, NEVER, "refused")]
    callback = running.callback(receiver.url("/ok?of=refused"), actions)
    running.primary(callback, retry=RETRY)
    return str(callback["triggerUrl"])


def ended_at_the_second_step(running: Running, receiver: Receiver, accepted: Collection[str]) -> None:
    """What refused_chain() must come to, for each of these triggers."""
    ends = running.query(
        "SELECT ends, count(*) FROM (SELECT string_agg(x.status::text, ' ' ORDER BY x.step) AS ends"
        " FROM action_executions x JOIN logs l ON l.id = x.trigger_id AND NOT l.success"
        " WHERE x.trigger_id = ANY(%s::uuid[]) GROUP BY x.trigger_id) each GROUP BY ends",
        list(accepted),
    )
    assert ends == [("SUCCESS FAILED FAILED", len(accepted))]
    assert not [receipt for receipt in receiver.receipts if receipt.path.startswith(NEVER)]


@pytest.mark.load
@pytest.mark.timeout(SECONDS + 300)
def test_a_mixed_load_survives_random_kills(watched: Running, receiver: Receiver) -> None:
    """Accepted ⊆ ended, as each must end; no step before its predecessor, no more receipts than
    attempts, no terminal state left.

    Guards: all of it together.
    """
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    urls = chains(watched, receiver)
    until = time.monotonic() + SECONDS
    kills, order = 0, chance.sample(VICTIMS, len(VICTIMS))
    with (
        BackgroundLoad(urls, connections=32, per_second=RATE) as load,
        BackgroundLoad(refused_chain(watched, receiver), per_second=REFUSED_RATE) as refused,
    ):
        while time.monotonic() < until:
            time.sleep(chance.uniform(5, 10))
            victim = order[kills % len(order)]  # each of them, also in a short run
            with contextlib.suppress(ProcessLookupError):
                watched.kill(victim)
                kills += 1
            progress(f"{until - time.monotonic():.0f} s left, killed {victim}, {len(load.accepted)} accepted")
    assert kills
    assert len(load.accepted) > SECONDS * RATE / 4
    watched.sent |= refused.accepted
    nothing_was_lost(watched, receiver, load.accepted, 120)
    assert refused.accepted
    ended_at_the_second_step(watched, receiver, refused.accepted)
    no_terminal_state_was_left(watched)
