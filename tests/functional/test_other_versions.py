"""A smoke test on the oldest servers that are supported to be at hand: PostgreSQL 15 and Redis 7 of
Debian, each where it is installed.

All other tests run on the embedded ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.server import EmbeddedServer
from deploy.local.valkey import PROGRAM, EmbeddedValkey
from tests.faults.oracle import nothing_was_lost
from tests.faults.tenants import two_tenants
from tests.peers.receiver import Receiver
from tests.running import Running
from tests.sent import unlike_any_other

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
COUNT = 6


def postgres_15(folder: Path) -> EmbeddedServer:
    if not (POSTGRES_15 / "postgres").exists():
        pytest.skip("NOT TESTED: PostgreSQL 15 (Debian's postgresql-15 is not installed)")
    return EmbeddedPostgres(folder / "server", binaries=POSTGRES_15)


def redis_7(folder: Path) -> EmbeddedServer:
    program = shutil.which("redis-server")
    version = subprocess.run([program, "--version"], capture_output=True, text=True) if program else None
    if program is None or version is None or not re.search(r"v=7\.", version.stdout):
        pytest.skip("NOT TESTED: Redis 7 (Debian's redis-server is not installed)")
    (folder / PROGRAM).symlink_to(program)  # under the name that our launcher knows
    return EmbeddedValkey(folder / "server", binaries=folder)


@contextmanager
def started(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a server while it runs."""
    server.prepare()
    process = server.spawn(subprocess.DEVNULL)
    try:
        server.wait_ready(process)
        if isinstance(server, EmbeddedPostgres):
            server.ensure_database()
        yield server.url
    finally:
        server.stop(process)


@pytest.mark.parametrize("make", [postgres_15, redis_7])
def test_what_is_accepted_is_delivered(
    tmp_path: Path, receiver: Receiver, make: Callable[[Path], EmbeddedServer]
) -> None:
    """Chains, retries, waiting, equal calls, a replay and a cancel: each statement of a trigger's
    way once.
    """
    server = make(tmp_path)
    with started(server) as url, Running(tmp_path, {server.setting: url}) as running:
        urls = two_tenants(running, receiver, "/ok", "/ok")
        stored = running.callback(receiver.url("/flaky/1"), [{"type": "STORE", "config": {}}])
        running.primary(stored, retry={"maxAttempts": 2, "schedule": [0.2]})
        accepted = []
        for number in range(COUNT):
            made, wait = unlike_any_other(), {"prefer": "wait=10", "idempotency-key": str(number)}
            made["headers"] |= wait
            target = stored["triggerUrl"] if number % 2 else urls[number // 2 % 2]
            first, again = (httpx.post(target, **made, trust_env=False, timeout=20) for _ in range(2))
            assert (first.status_code, again.status_code) == (200, 200)
            assert again.json()["triggerId"] == running.note(first)
            accepted.append(first.json()["triggerId"])
        replayed = running.api.post(f"/api/v1/triggers/{accepted[1]}/replay", json={"from": "start"})
        assert running.ended(replayed.json()["id"])["status"] == "SUCCESS"
        nothing_was_lost(running, receiver, accepted)
        slow = running.fire(running.callback(receiver.url("/delay/5000")))
        assert running.api.post(f"/api/v1/triggers/{slow}/cancel").is_success
        assert running.ended(slow)["reason"] == "cancelled"
        assert re.findall(r".*(?:\berror\b|Traceback|ERROR|FATAL).*", running.log()) == []
