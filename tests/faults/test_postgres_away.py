"""PostgreSQL stopped, frozen, restarted or on a full disk, while the rest runs on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import OnOutsideServers, on_outside_servers
from tests.faults.oracle import nobody_was_lost_with_a_worker, nothing_was_lost, wait_for
from tests.faults.sizes import progress, size
from tests.faults.tenants import two_tenants
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import eventually
from tests.sent import unlike_any_other

RESTARTS = size(2, 20)

# A heart that beats just before the freeze, and again after 3 s, gives that up after 3.1 s more and
# waits for 3 s. The freeze ends meanwhile, so that the next look comes before the next beat.
RARE_HEARTBEATS = {
    "POINTSMAN_HEARTBEAT_SECONDS": "3",
    "POINTSMAN_LEASE_SECONDS": "6.2",
    "POINTSMAN_STALE_SECONDS": "6.4",
}
FREEZE_SECONDS = 7.5
FREEZES = size(3, 10)

# Accepted triggers.
BETWEEN = 100
DISK_MIB = 320
SPARE_MIB = 24

# Does not compress.
BODY = os.urandom(500_000)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path_factory.mktemp("outside")) as made:
        yield made


def call(callback: dict[str, Any], body: bytes = b"{}") -> httpx.Response:
    return httpx.post(callback["triggerUrl"], content=body, timeout=30, trust_env=False)


def is_accepted_again(callback: dict[str, Any]) -> None:
    eventually(lambda: call(callback).status_code == 202, 30, "202 again")


def stop(outside: OnOutsideServers) -> None:
    outside.postgres.stop(outside.postgres_process)


def freeze(outside: OnOutsideServers) -> None:
    os.kill(outside.postgres_process.pid, signal.SIGSTOP)
    for child in _children(outside.postgres_process.pid):
        os.kill(child, signal.SIGSTOP)


def thaw(outside: OnOutsideServers) -> None:
    for pid in (*_children(outside.postgres_process.pid), outside.postgres_process.pid):
        os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_postgres_the_answer_is_503_until_it_is_back(
    outside: OnOutsideServers, receiver: Receiver, how: str
) -> None:
    """Guards: the bound on every wait for a commit, connecting again."""
    callback = outside.running.callback(receiver.url("/ok"))
    first = outside.running.fire(callback, **unlike_any_other())
    assert outside.running.ended(first)["status"] == "SUCCESS"
    (stop if how == "stopped" else freeze)(outside)

    for _ in range(3):
        started = time.monotonic()
        answer = call(callback)
        assert time.monotonic() - started < 8
        assert answer.status_code == 503
        assert answer.json()["code"] in ("unavailable", "outcome_unknown")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"

    if how == "stopped":
        outside.start_postgres()
    else:
        thaw(outside)
    is_accepted_again(callback)
    nothing_was_lost(outside.running, receiver, [first], 30)


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path, RARE_HEARTBEATS | {"POINTSMAN_WORKERS": "2"}) as made:
        yield made


def test_after_a_frozen_postgres_no_worker_is_declared_dead(
    two_workers: OnOutsideServers, receiver: Receiver
) -> None:
    """It fails no read: it answers when it goes on, before any heart has beaten again.

    Guards: late reads count for nothing. Several times, since it matters what each worker is about
    when all stands still.
    """
    running = two_workers.running
    urls = two_tenants(running, receiver, "/ok", "/ok")
    with BackgroundLoad(urls, connections=8) as load:
        for number in range(FREEZES):
            wait_for(load.accepted, BETWEEN)
            freeze(two_workers)
            time.sleep(FREEZE_SECONDS)
            thaw(two_workers)
            progress(f"freeze {number + 1} of {FREEZES}, {len(load.accepted)} accepted")
        wait_for(load.accepted, BETWEEN)
    assert set(load.refused) <= {503}, load.refused
    nothing_was_lost(running, receiver, load.accepted)
    nobody_was_lost_with_a_worker(running, load.accepted)
    assert not re.search("worker_dead|declared_dead", running.log())
    twice = [key for key, count in Counter(one.webhook_id for one in receiver.receipts).items() if count > 1]
    assert twice == [], "nothing is delivered twice"


def test_connections_that_fell_silent_are_made_anew(outside: OnOutsideServers, receiver: Receiver) -> None:
    """The network swallows them without a word, as a host that vanished does.

    Guards: the watchdog of every call.
    """
    callback = outside.running.callback(receiver.url("/ok"))
    first = outside.running.fire(callback, **unlike_any_other())
    outside.running.ended(first)
    outside.postgres_proxy.strand()
    is_accepted_again(callback)
    second = outside.running.fire(callback, **unlike_any_other())
    nothing_was_lost(outside.running, receiver, [first, second], 60)


def test_postgres_restarted_at_once_under_load(outside: OnOutsideServers, receiver: Receiver) -> None:
    """SIGQUIT: no clean end, recovery at the start.

    Guards: commit on disk, the patient journal, pools that heal.
    """
    urls = two_tenants(outside.running, receiver, "/ok", "/ok")
    before = {name: pid for name, pid in outside.running.pids().items() if name in ("api", "worker")}
    with BackgroundLoad(urls) as load:
        for number in range(RESTARTS):
            wait_for(load.accepted, BETWEEN)
            outside.postgres_process.send_signal(signal.SIGQUIT)
            outside.postgres_process.wait(20)
            outside.start_postgres()
            progress(f"restart {number + 1} of {RESTARTS}, {len(load.accepted)} accepted")
        wait_for(load.accepted, BETWEEN)
    assert set(load.refused) <= {503}, load.refused
    nothing_was_lost(outside.running, receiver, load.accepted)
    after = outside.running.pids()
    assert {name: after[name] for name in before} == before, "nothing was restarted"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[OnOutsideServers]:
    disk = tmp_path / "postgres"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full disk needs the right to mount a tmpfs (root)")
    try:
        with on_outside_servers(tmp_path) as made:
            yield made
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_with_its_disk_full_nothing_is_accepted_and_nothing_lost(
    small_disk: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: 2xx only after a commit; disk_full counts as an outage, for the ingress and for the
    journal.
    """
    callback = small_disk.running.callback(receiver.url("/ok"))
    filler = small_disk.postgres.folder / "filler"
    free = os.statvfs(filler.parent).f_bavail * os.statvfs(filler.parent).f_frsize
    filler.write_bytes(b"\0" * max(free - SPARE_MIB * 1024 * 1024, 0))
    answers: list[httpx.Response] = []

    def is_refused() -> bool:
        answers.append(call(callback, BODY))
        return answers[-1].status_code != 202

    eventually(is_refused, 60, "a full disk")
    answers += [call(callback, BODY) for _ in range(5)]
    assert {answer.status_code for answer in answers} <= {202, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)

    filler.unlink()
    if small_disk.postgres_process.poll() is not None:  # without room for its log it panics
        small_disk.start_postgres()
    is_accepted_again(callback)
    accepted = [small_disk.running.note(answer) for answer in answers if answer.status_code == 202]
    assert accepted
    nothing_was_lost(small_disk.running, receiver, accepted)
