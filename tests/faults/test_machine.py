"""What the machine does to Pointsman: a full disk under its log, a clock that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import on_outside_servers
from tests.faults.oracle import nobody_was_lost_with_a_worker, nothing_was_lost
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.sent import unlike_any_other

ROOT = Path(__file__).parents[2]


def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path, receiver: Receiver) -> None:
    """Guards: a line that cannot be written is dropped, by the supervisor and by its processes."""
    running = Running(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    running.process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "run"],
        env=running.environment,
        stdout=full,
        stderr=full,
        stdin=subprocess.DEVNULL,
    )
    os.close(full)
    try:
        eventually(lambda: _is_ready(running), 60, "readiness")
        callback = running.callback(receiver.url("/ok"))
        accepted = [running.fire(callback, **unlike_any_other()) for _ in range(10)]
        nothing_was_lost(running, receiver, accepted)
        running.kill("worker")
        after = running.fire(running.callback(receiver.url("/ok")))
        assert running.ended(after, 30)["status"] == "SUCCESS"
    finally:
        running.stop()


def _is_ready(running: Running) -> bool:
    try:
        return httpx.get(f"{running.url}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False


CLOCK = """
import os, pathlib, sys, time
_time, _time_ns, _skew = time.time, time.time_ns, int(os.environ["SKEW_SECONDS"])
_from = time.monotonic() + float(os.environ["SET_AFTER_SECONDS"])
_noted = []

def _ahead():
    if time.monotonic() < _from:
        return 0
    if not _noted:
        _noted.append(True)
        told = time.time() - _time()
        (pathlib.Path(__file__).parent / str(os.getpid())).write_text(f"{told:.0f}")
    return _skew

time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 1_000_000_000
"""
"""Another clock for a process. Who is told a wrong time first is noted: a file, named by the pid,
that holds by how many seconds."""

# Of a process's life: long enough to start and to deliver something.
SET_AFTER_SECONDS = 15.0


@pytest.mark.parametrize("set_after_seconds", [0.0, SET_AFTER_SECONDS], ids=["wrong", "set meanwhile"])
@pytest.mark.parametrize("skew_seconds", [7200, -7200])
def test_a_clock_that_is_wrong_by_hours_changes_nothing(
    tmp_path: Path, receiver: Receiver, skew_seconds: int, set_after_seconds: float
) -> None:
    """The API and the workers live two hours beside PostgreSQL. Guards: times and keys from
    PostgreSQL's clock.

    (libfaketime cannot be used: CPython's time.sleep fails or hangs under it. So Python itself
    reads another clock, before any code of ours or of Celery's is loaded.)
    """
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    clock = {
        "PYTHONPATH": f"{tmp_path / 'clock'}:{ROOT}",
        "SKEW_SECONDS": str(skew_seconds),
        "SET_AFTER_SECONDS": str(set_after_seconds),
    }
    with on_outside_servers(tmp_path, clock) as outside:
        running = outside.running
        callback = running.callback(receiver.url("/flaky/1"))
        running.primary(callback, retry={"maxAttempts": 3, "schedule": [2]})
        _deliver_on_time(running, receiver, callback)
        everybody = dict.fromkeys((running.pid_of("api"), running.pid_of("worker")), skew_seconds)
        eventually(
            lambda: everybody.items() <= _who_was_told(tmp_path).items(),
            set_after_seconds + 10,
            "the API and the worker to be told a wrong time",
        )
        _deliver_on_time(running, receiver, callback)


def _who_was_told(folder: Path) -> dict[int, int]:
    """The processes whose clock was asked since it is wrong: pid → by how many seconds."""
    notes = [path for path in (folder / "clock").iterdir() if path.name.isdigit()]
    return {int(path.name): int(path.read_text() or 0) for path in notes}


def _deliver_on_time(running: Running, receiver: Receiver, callback: dict[str, Any]) -> None:
    """Twenty triggers whose first attempt fails, and whatever bears a time."""
    receiver.receipts.clear()
    started = time.monotonic()
    accepted = [running.fire(callback, **unlike_any_other()) for _ in range(20)]
    nothing_was_lost(running, receiver, accepted, 30)
    assert 2 <= time.monotonic() - started < 10, "the retry came when it was due"
    assert len(receiver.receipts) == 40, "no storm of retries"
    nobody_was_lost_with_a_worker(running, accepted)
    on_time = "SELECT bool_and(abs(extract(epoch FROM now() - received_at)) < 90) FROM triggers"
    assert running.query(on_time) == [(True,)]
    key_seconds = [int(one.replace("-", "")[:12], 16) / 1000 for one in accepted]
    assert all(abs(seconds - time.time()) < 60 for seconds in key_seconds), "keys bear PostgreSQL's time"
    signed_at = int(receiver.receipts[0].headers["webhook-timestamp"])
    assert abs(signed_at - time.time()) < 60, "and so do signatures, which receivers check"
