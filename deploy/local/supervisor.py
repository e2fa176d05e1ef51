"""Keeps child processes running: what dies is started again, with growing distance and a clear
line.

Invariants:

- Children are spawned from the main thread, so that the kernel ends them when this process is
  killed.
- A child that says its configuration is wrong (exit code 78) is not started again but ends
  everything.
- Stop() leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deploy.local.console import Console
from deploy.local.process import Identity
from shared.errors import StartupError
from shared.process import EX_CONFIG

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0

# A child that lived this long starts again at once: it does not end in a loop.
LONG_LIFE_SECONDS = 5.0
POLL_SECONDS = 0.1
STOP_SECONDS = 7.0


@dataclass(slots=True)
class Child:
    """One process to keep. spawn: starts it; stop: ends it politely; last: stopped after the
    others.

    stop_seconds: how long it may take to end before it is killed.
    """

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    stop: Callable[[subprocess.Popen[bytes]], object] | None = None
    last: bool = False
    stop_seconds: float = STOP_SECONDS
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff_seconds: float = FIRST_BACKOFF_SECONDS
    due_at: float | None = None


def python_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> Callable[[], subprocess.Popen[bytes]]:
    """A spawn function for one of our own modules, run by this interpreter, that dies with us."""

    def spawn() -> subprocess.Popen[bytes]:
        ourselves = Identity("this user", os.geteuid(), os.getegid(), become=lambda: None)
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops its children in order
            preexec_fn=ourselves.preexec(signal.SIGKILL),
        )

    return spawn


class Supervisor:
    """Starts children, watches them, stops them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether a child ended in a way that no restart can fix."""
        return self._failed

    def request_stop(self) -> None:
        """Make watch() return. May be called from a signal handler."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def is_stopping_within(self, seconds: float) -> bool:
        """Wait this long for the request to stop; True as soon as it has come."""
        return self._stopping.wait(seconds)

    def start(self, child: Child) -> subprocess.Popen[bytes]:
        """Start a child and keep it from now on.

        Raises StartupError when it cannot be started at all.
        """
        self._children.append(child)
        return self._spawn(child)

    def watch(self) -> None:
        """Start again what dies, until a stop is requested."""
        while not self._stopping.wait(POLL_SECONDS):
            for child in self._children:
                self._look_after(child)

    def stop(self) -> None:
        """Stop all children, the servers last. Whoever does not end in time is killed."""
        for last in (False, True):
            group = [c for c in self._children if c.last is last and c.process is not None]
            for child in group:
                if child.stop is None and child.process is not None and child.process.poll() is None:
                    child.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            for child in group:
                self._end(child, started + child.stop_seconds)

    def _end(self, child: Child, deadline: float) -> None:
        process = child.process
        assert process is not None
        if child.stop is not None and process.poll() is None:
            child.stop(process)
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self._console.say(f"{child.name} did not end in time and is killed")
            process.kill()
            process.wait()

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        process = child.spawn()
        child.process = process
        child.started_at = time.monotonic()
        child.due_at = None
        if process.stdout is not None:
            self._console.follow(child.name, process.stdout)
        return process

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.due_at is not None:
            if now >= child.due_at:
                self._try_again(child)
            return
        assert child.process is not None
        code = child.process.poll()
        if code is None:
            return
        if code == EX_CONFIG:
            self._console.say(f"{child.name} cannot use its configuration; stopping everything")
            self._failed = True
            self.request_stop()
            return
        if now - child.started_at >= LONG_LIFE_SECONDS:
            child.backoff_seconds = FIRST_BACKOFF_SECONDS
        self._console.say(f"{child.name} {_ending(code)}; starting it again in {child.backoff_seconds:g} s")
        self._put_off(child)

    def _put_off(self, child: Child) -> None:
        child.due_at = time.monotonic() + child.backoff_seconds
        child.backoff_seconds = min(child.backoff_seconds * 2, MAX_BACKOFF_SECONDS)

    def _try_again(self, child: Child) -> None:
        try:
            self._spawn(child)
        except (StartupError, OSError) as error:  # OSError: too many processes or open files for now
            reason = error.message if isinstance(error, StartupError) else f"{error}."
            self._console.say(f"{child.name}: {reason} Trying again in {child.backoff_seconds:g} s")
            self._put_off(child)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
