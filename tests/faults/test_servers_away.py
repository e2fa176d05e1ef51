"""Redis or PostgreSQL away, stopped or frozen, while the rest runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.server import EmbeddedServer
from deploy.local.valkey import EmbeddedValkey
from tests.faults.oracle import nothing_was_lost
from tests.peers.receiver import Receiver
from tests.running import Running, eventually


@dataclass
class OnOutsideServers:
    """A Pointsman whose servers belong to the test, so that nobody starts them again."""

    running: Running
    postgres: EmbeddedPostgres
    postgres_process: subprocess.Popen[bytes]
    valkey: EmbeddedValkey
    valkey_process: subprocess.Popen[bytes]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[OnOutsideServers]:
    postgres, valkey = EmbeddedPostgres(tmp_path / "postgres"), EmbeddedValkey(tmp_path / "valkey")
    servers: tuple[EmbeddedServer, ...] = (postgres, valkey)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers:
            server.prepare()
            processes.append(server.spawn(subprocess.DEVNULL))
            server.wait_ready(processes[-1])
        postgres.ensure_database()
        environment = {"POINTSMAN_DATABASE_URL": postgres.url, "POINTSMAN_REDIS_URL": valkey.url}
        with Running(tmp_path, environment) as running:
            yield OnOutsideServers(running, postgres, processes[0], valkey, processes[1])
    finally:
        for server, process in zip(servers, processes, strict=False):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                server.stop(process)


def test_without_redis_triggers_are_accepted_and_delivered(
    outside: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: hints that fail open, and the sweep that offers due runs to its own engine."""
    callback = outside.running.callback(receiver.url("/ok"))
    outside.valkey_process.kill()
    outside.valkey_process.wait()

    started = time.monotonic()
    accepted = [outside.running.fire(callback) for _ in range(30)]
    assert time.monotonic() - started < 5, "accepting does not wait for Redis"

    nothing_was_lost(outside.running, receiver, accepted, 30)
    assert len(receiver.receipts) == 30


def test_with_redis_frozen_triggers_are_accepted_and_delivered(
    outside: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: the publisher's own short socket timeout and its breaker."""
    callback = outside.running.callback(receiver.url("/ok"))
    os.kill(outside.valkey_process.pid, signal.SIGSTOP)

    accepted = [outside.running.fire(callback) for _ in range(10)]

    nothing_was_lost(outside.running, receiver, accepted, 30)
    os.kill(outside.valkey_process.pid, signal.SIGCONT)
    again = outside.running.fire(callback)
    assert outside.running.ended(again)["status"] == "SUCCESS"


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_postgres_the_answer_is_503_until_it_is_back(
    outside: OnOutsideServers, receiver: Receiver, how: str
) -> None:
    """Guards: the bound on every wait for a commit, the watchdog of frozen connections, connecting again."""
    callback = outside.running.callback(receiver.url("/ok"))
    first = outside.running.fire(callback)
    assert outside.running.ended(first)["status"] == "SUCCESS"
    if how == "stopped":
        outside.postgres.stop(outside.postgres_process)
    else:
        os.kill(outside.postgres_process.pid, signal.SIGSTOP)
        for child in _children(outside.postgres_process.pid):
            os.kill(child, signal.SIGSTOP)

    for _ in range(3):
        started = time.monotonic()
        answer = httpx.post(callback["triggerUrl"], json={}, timeout=30, trust_env=False)
        assert time.monotonic() - started < 8
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"

    if how == "stopped":
        outside.postgres_process = outside.postgres.spawn(subprocess.DEVNULL)
    else:
        for pid in (*_children(outside.postgres_process.pid), outside.postgres_process.pid):
            os.kill(pid, signal.SIGCONT)
    try:
        eventually(
            lambda: (
                httpx.post(callback["triggerUrl"], json={}, trust_env=False, timeout=30).status_code == 202
            ),
            30,
            "202 again",
        )
        nothing_was_lost(outside.running, receiver, [first], 30)
    finally:
        if how == "stopped":
            outside.postgres.wait_ready(outside.postgres_process)
            outside.running.stop()
            outside.postgres.stop(outside.postgres_process)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]
