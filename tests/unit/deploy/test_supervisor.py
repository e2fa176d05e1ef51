"""The supervisor, with real tiny children."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import supervisor as module
from deploy.local.console import Console
from deploy.local.supervisor import Child, Supervisor
from tests.running import eventually, is_alive

STAYS = "import time; time.sleep(60)"
IGNORES_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(output: io.StringIO) -> Supervisor:
    return Supervisor(Console("console", output))


def spawning(code: str) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def stop_when(supervisor: Supervisor, condition: Callable[[], object], what: str) -> None:
    """Watch until the condition holds."""

    def wait() -> None:
        try:
            eventually(condition, 15, what)
        finally:
            supervisor.request_stop()

    waiter = threading.Thread(target=wait)
    waiter.start()
    supervisor.watch()
    waiter.join()


def test_what_dies_is_started_again_with_growing_distance(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    supervisor.start(Child("brief", spawning("raise SystemExit(3)")))
    stop_when(supervisor, lambda: output.getvalue().count("starting it again") >= 3, "three restarts")
    supervisor.stop()
    lines = [line for line in output.getvalue().splitlines() if "starting it again" in line]
    assert [line.split("in ")[-1] for line in lines[:3]] == ["0.5 s", "1 s", "2 s"]
    assert "brief ended with code 3" in lines[0]


def test_a_killed_child_is_named_by_its_signal(supervisor: Supervisor, output: io.StringIO) -> None:
    first = supervisor.start(Child("long", spawning(STAYS)))
    first.kill()
    stop_when(supervisor, lambda: "was ended by SIGKILL" in output.getvalue(), "the line about SIGKILL")
    supervisor.stop()


def test_a_wrong_configuration_stops_everything(supervisor: Supervisor, output: io.StringIO) -> None:
    good = supervisor.start(Child("good", spawning(STAYS)))
    supervisor.start(Child("bad", spawning("raise SystemExit(78)")))
    supervisor.watch()
    supervisor.stop()
    assert supervisor.failed
    assert not is_alive(good.pid)
    assert "bad cannot use its configuration" in output.getvalue()


def test_stop_leaves_nothing_not_even_what_ignores_sigterm(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    deaf = supervisor.start(Child("deaf", spawning(IGNORES_TERM)))
    polite = supervisor.start(Child("polite", spawning(STAYS)))
    eventually(lambda: "deaf" in output.getvalue(), 10, "a child that ignores SIGTERM")
    supervisor.stop()
    assert (deaf.returncode, polite.returncode) == (-signal.SIGKILL, -signal.SIGTERM)
    assert "deaf did not end in time" in output.getvalue()


def test_servers_are_stopped_after_their_users(supervisor: Supervisor) -> None:
    order: list[str] = []

    def note(name: str) -> Callable[[subprocess.Popen[bytes]], object]:
        def stop(process: subprocess.Popen[bytes]) -> None:
            order.append(name)
            process.kill()

        return stop

    supervisor.start(Child("server", spawning(STAYS), note("server"), last=True))
    supervisor.start(Child("user", spawning(STAYS), note("user")))
    supervisor.stop()
    assert order == ["user", "server"]


def test_a_module_dies_with_its_parent(tmp_path: Path) -> None:
    """Fails without the death signal."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a signal for the death of a parent")
    (tmp_path / "stays.py").write_text(STAYS)
    code = (
        "import os, sys, time; from deploy.local.supervisor import python_module;"
        "p = python_module('stays', [], dict(os.environ))(); print(p.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_alive(child), 5, "the child's end")
