"""Processes that a benchmark starts itself, and ends with everything below them.

Each has a session of its own, so that Ctrl-C is for the benchmark, which then stops them in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.processes import tree

STOP_SECONDS = 10.0
LAST_LINES = 20


class Child:
    """`python -m …`, its output in a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log_path: Path) -> None:
        self._name = arguments[0]
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def must_live(self) -> None:
        """RuntimeError with its last lines when it has ended."""
        if self._process.poll() is not None:
            last = "\n".join(self._log_path.read_text(errors="replace").splitlines()[-LAST_LINES:])
            raise RuntimeError(f"{self._name} ended:\n{last}")

    def stop(self) -> None:
        """Ask it to end; kill it, and what it started, when it does not."""
        pids = tree(self.pid)
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
