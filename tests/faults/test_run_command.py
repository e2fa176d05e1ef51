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

    with socket.create_connection(("127.0.0.1", running.port)) as idle:
        assert running.stop(signal.SIGINT) < 10, "a client that stays holds nobody up"
        assert idle.recv(1) == b""
    assert "did not end in time" not in running.log()
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


def test_a_second_run_on_the_same_folder_is_told_of_the_first_and_leaves_it_alone(tmp_path: Path) -> None:
    """Fails when who is refused cleans up behind the one that runs."""
    with Running(tmp_path) as running:
        before = (tmp_path / "data" / "run.json").read_text()
        second = run_with(running.environment)
        assert second.returncode == 1
        assert running.process is not None
        for word in (f"Pointsman runs on {tmp_path / 'data'} already", str(running.process.pid), running.url):
            assert word in second.stderr
        assert "POINTSMAN_DATA_DIR" in second.stderr
        assert second.stdout == "", "it has started nothing and stops nothing"
        assert (tmp_path / "data" / "run.json").read_text() == before
        demo = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "demo"],
            env=running.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert demo.returncode == 0, demo.stderr
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_run_on_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run_with(
            {**Running(tmp_path).environment, "POINTSMAN_PORT": port},
        )
    assert refused.returncode == 1
    assert "is taken" in refused.stderr
    assert "POINTSMAN_PORT" in refused.stderr


def run_with(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A `pointsman run` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


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


def test_the_demo_command_shows_each_step_on_one_line_of_80_columns(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        demo = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "demo"],
            env={**running.environment, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert demo.returncode == 0, demo.stderr
    assert "202" in demo.stdout
    lines = demo.stdout.splitlines()
    for step, result in (
        ("primary", "HTTP 200"),
        ("audit", "HTTP 200"),
        ("confirm", "HTTP 200"),
        ("keep", "bytes stored"),
    ):
        (row,) = (line for line in lines if step in line.split())
        assert "SUCCESS" in row
        assert row.rstrip().endswith(result)
        assert len(row) <= 80
