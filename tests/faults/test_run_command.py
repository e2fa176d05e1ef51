"""`pointsman run` itself: what it leaves behind, what it finds again, what it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.faults.oracle import nothing_was_lost
from tests.peers.receiver import Receiver
from tests.running import Running, eventually, is_alive
from tests.sent import unlike_any_other

NAMES = {"api", "worker", "receiver", "postgres", "valkey"}


def test_ctrl_c_leaves_no_process_and_the_next_run_finds_the_data(tmp_path: Path, receiver: Receiver) -> None:
    running = Running(tmp_path)
    running.start()
    callback = running.callback(receiver.url("/ok"))
    trigger_id = running.fire(callback)
    running.ended(trigger_id)
    pids = running.pids()
    assert set(pids) == NAMES

    assert running.stop(signal.SIGINT) < 10
    assert [name for name, pid in pids.items() if is_alive(pid)] == []

    with running:
        assert running.ended(trigger_id)["status"] == "SUCCESS"
        assert running.ended(running.fire(callback))["status"] == "SUCCESS"
        assert running.log().count("The first admin was made") == 0, (
            "its password was given, so it is not printed"
        )


def test_a_killed_supervisor_takes_everything_along_and_the_next_run_recovers(
    tmp_path: Path, receiver: Receiver
) -> None:
    running = Running(tmp_path)
    running.start()
    callback = running.callback(receiver.url("/delay/300"))
    trigger_ids = [running.fire(callback, **unlike_any_other()) for _ in range(20)]
    eventually(lambda: receiver.receipts, 5, "deliveries under way")
    pids = running.pids()
    assert running.process is not None
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    eventually(lambda: not any(map(is_alive, pids.values())), 10, "the end of all processes")
    running.stop()

    with running:
        nothing_was_lost(running, receiver, trigger_ids, 30)


def test_a_second_run_on_the_same_folder_or_port_is_refused_with_the_mend(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        second = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "run"],
            env=running.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert "Another Pointsman is running" in second.stderr
        assert "POINTSMAN_DATA_DIR" in second.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**running.environment, "POINTSMAN_PORT": str(taken.getsockname()[1])}
        third = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "run"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert third.returncode == 1
    assert "is taken" in third.stderr


def test_a_wrong_setting_stops_the_start_and_names_the_variable(tmp_path: Path) -> None:
    for name, value in (("POINTSMAN_PROT", "1"), ("POINTSMAN_PORT", "x"), ("POINTSMAN_LEASE_SECONDS", "1")):
        inherited = {key: one for key, one in os.environ.items() if not key.startswith("POINTSMAN_")}
        environment = {**inherited, "POINTSMAN_DATA_DIR": str(tmp_path), name: value}
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "run"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 78
        assert name in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_demo_command_shows_the_steps(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        demo = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "demo"],
            env=running.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert demo.returncode == 0, demo.stderr
    for word in ("202", "primary", "audit", "confirm", "keep", "SUCCESS"):
        assert word in demo.stdout
