"""The supervisor, with real tiny children."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import supervisor as module
from deploy.local.console import Console
from deploy.local.supervisor import Child, Supervisor
from shared.errors import StartupError
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
    supervisor: Supervisor, output: io.StringIO
) -> None:
    deaf = supervisor.start(Child("deaf", spawning(IGNORES_TERM), stop_seconds=0.5))
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


def test_the_distance_between_restarts_has_a_bound(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKOFF_SECONDS", 0.02)
    supervisor.start(Child("brief", spawning("raise SystemExit(1)"), backoff_seconds=0.01))
    stop_when(supervisor, lambda: output.getvalue().count("starting it again") >= 3, "three restarts")
    supervisor.stop()
    told = re.findall(r"again in (\S+) s", output.getvalue())
    assert told[:3] == ["0.01", "0.02", "0.02"]


def test_a_child_that_lived_long_starts_again_at_once(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a crash a day adds up to half a minute of standing still."""
    monkeypatch.setattr(module, "LONG_LIFE_SECONDS", 0.0)
    supervisor.start(Child("old", spawning("raise SystemExit(1)"), backoff_seconds=30.0))
    stop_when(supervisor, lambda: "starting it again" in output.getvalue(), "the restart")
    supervisor.stop()
    assert "old ended with code 1; starting it again in 0.5 s" in output.getvalue()


@pytest.mark.parametrize(
    "error",
    [StartupError("No room.", hint="Make some."), BlockingIOError(11, "Resource temporarily unavailable")],
    ids=["ours", "the system's"],
)
def test_a_restart_that_fails_is_tried_again(
    error: Exception, supervisor: Supervisor, output: io.StringIO
) -> None:
    """Fails when a machine that is short of processes for a moment ends everything that still
    runs.
    """
    spawned: list[subprocess.Popen[bytes]] = []
    tries: list[int] = []

    def spawn() -> subprocess.Popen[bytes]:
        tries.append(len(tries))
        if len(tries) == 2:
            raise error
        if len(tries) == 3:
            supervisor.request_stop()
        spawned.append(spawning("raise SystemExit(1)")())
        return spawned[-1]

    too_long = threading.Timer(10, supervisor.request_stop)
    too_long.start()
    neighbour = supervisor.start(Child("neighbour", spawning(STAYS)))
    try:
        supervisor.start(Child("unlucky", spawn, backoff_seconds=0.01))
        supervisor.watch()
        assert (len(tries), len(spawned)) == (3, 2)
        assert neighbour.poll() is None
        assert "unlucky: " in output.getvalue()
    finally:
        too_long.cancel()
        supervisor.stop()
    assert not any(is_alive(process.pid) for process in (*spawned, neighbour))


def test_a_first_start_that_fails_is_told_to_the_caller_and_stop_still_works(supervisor: Supervisor) -> None:
    def spawn() -> subprocess.Popen[bytes]:
        raise StartupError("PostgreSQL cannot start.")

    good = supervisor.start(Child("good", spawning(STAYS)))
    with pytest.raises(StartupError):
        supervisor.start(Child("bad", spawn))
    supervisor.stop()
    assert not is_alive(good.pid)


def test_a_child_that_learns_later_that_its_configuration_is_wrong_stops_everything_too(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    flag = tmp_path / "started-before"
    code = f"import pathlib; p = pathlib.Path({str(flag)!r}); code = 78 if p.exists() else 1; p.touch(); raise SystemExit(code)"
    supervisor.start(Child("turncoat", spawning(code), backoff_seconds=0.01))
    supervisor.watch()
    supervisor.stop()
    assert supervisor.failed
    assert supervisor.is_stopping


def test_stopping_while_a_child_waits_for_its_restart_starts_nothing(supervisor: Supervisor) -> None:
    starts: list[subprocess.Popen[bytes]] = []

    def spawn() -> subprocess.Popen[bytes]:
        starts.append(spawning("raise SystemExit(1)")())
        return starts[-1]

    child = Child("brief", spawn, backoff_seconds=30.0)
    supervisor.start(child)
    stop_when(supervisor, lambda: child.due_at is not None, "the restart to be planned")
    supervisor.stop()
    assert len(starts) == 1
    assert not supervisor.failed


def test_everything_that_a_child_prints_is_shown_under_its_name(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); import time; time.sleep(60)"
    supervisor.start(Child("talker", spawning(code)))
    eventually(lambda: output.getvalue().count("talker     │ ") == 2, 10, "both lines")
    supervisor.stop()
    assert "talker     │ out\n" in output.getvalue()
    assert "talker     │ err\n" in output.getvalue()


def test_children_are_asked_to_end_all_at_once(supervisor: Supervisor, output: io.StringIO) -> None:
    """Fails when each gets the whole time to itself: ten workers would take ten times as long to
    end.
    """
    children = [
        supervisor.start(Child(f"child{n}", spawning(IGNORES_TERM), stop_seconds=0.3)) for n in range(4)
    ]
    eventually(lambda: output.getvalue().count("deaf") == 4, 10, "four children that ignore SIGTERM")
    started = time.monotonic()
    supervisor.stop()
    assert 0.3 <= time.monotonic() - started < 1.1
    assert all(child.returncode is not None for child in children)
