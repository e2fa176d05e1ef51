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
import os, pathlib, time
_time, _time_ns = time.time, time.time_ns
_folder, _ahead_seconds = pathlib.Path(__file__).parent, []

def _ahead():
    if not _ahead_seconds and (_folder / "set").exists():
        _ahead_seconds.append(int((_folder / "set").read_text()))
        told = time.time() - _time()
        (_folder / str(os.getpid())).write_text(f"{told:.0f}")
    return _ahead_seconds[0] if _ahead_seconds else 0

time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 1_000_000_000
"""
"""Another clock for each process, set by the file `set`. A process that is told a wrong time notes
by how many seconds, in a file that bears its pid.
"""


@pytest.mark.parametrize("meanwhile", [False, True], ids=["wrong", "set meanwhile"])
@pytest.mark.parametrize("skew_seconds", [7200, -7200])
def test_a_clock_that_is_wrong_by_hours_changes_nothing(
    tmp_path: Path, receiver: Receiver, skew_seconds: int, meanwhile: bool
) -> None:
    """The API and the workers live two hours beside PostgreSQL. Guards: times and keys from
    PostgreSQL's clock.

    (libfaketime cannot be used: CPython's time.sleep fails or hangs under it. So Python itself
    reads another clock, before any code of ours or of Celery's is loaded.)
    """
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(CLOCK)
    if not meanwhile:
        _set(clock, skew_seconds)
    with on_outside_servers(tmp_path, {"PYTHONPATH": f"{clock}:{ROOT}"}) as outside:
        running = outside.running
        assert bool(_who_was_told(clock)) is not meanwhile
        _set(clock, skew_seconds)
        callback = running.callback(receiver.url("/flaky/1"))
        running.primary(callback, retry={"maxAttempts": 3, "schedule": [2]})
        _deliver_on_time(running, receiver, callback)
        everybody = {running.pid_of(name): skew_seconds for name in ("api", "worker")}
        assert everybody.items() <= _who_was_told(clock).items(), "the false clock is in effect"


def _set(clock: Path, skew_seconds: int) -> None:
    """Set it for all; at once, so that nobody reads a half."""
    (clock / "new").write_text(str(skew_seconds))
    (clock / "new").rename(clock / "set")


def _who_was_told(clock: Path) -> dict[int, int]:
    """The processes that have asked their clock since it is wrong: pid → by how many seconds."""
    return {int(path.name): int(path.read_text()) for path in clock.iterdir() if path.name.isdigit()}


def _deliver_on_time(running: Running, receiver: Receiver, callback: dict[str, Any]) -> None:
    """Twenty triggers whose first attempt fails, and whatever bears a time."""
    receiver.receipts.clear()
    accepted = [running.fire(callback, **unlike_any_other()) for _ in range(20)]
    nothing_was_lost(running, receiver, accepted, 30)
    came = {(receipt.webhook_id, receipt.attempt): receipt.at for receipt in receiver.receipts}
    waited = [came[one, 2] - at for (one, attempt), at in came.items() if attempt == 1]
    assert 2 <= min(waited) <= max(waited) < 10, "the retry came when it was due"
    assert len(receiver.receipts) == 40, "no storm of retries"
    nobody_was_lost_with_a_worker(running, accepted)
    on_time = "SELECT bool_and(abs(extract(epoch FROM now() - received_at)) < 90) FROM triggers"
    assert running.query(on_time) == [(True,)]
    key_seconds = [int(one.replace("-", "")[:12], 16) / 1000 for one in accepted]
    assert all(abs(seconds - time.time()) < 60 for seconds in key_seconds), "keys bear PostgreSQL's time"
    signed_at = int(receiver.receipts[0].headers["webhook-timestamp"])
    assert abs(signed_at - time.time()) < 60, "and so do signatures, which receivers check"
