"""What is compared: Pointsman, and the bare pipeline with its constant view.

Each side has URLs to post to (`nginx` for throughput, `receiver` for latency), groups of processes whose
cost is read, and waits until everything it accepted was executed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from deploy.local.ports import free_port
from deploy.local.valkey import EmbeddedValkey
from tests.benchmarks.nginx import Nginx
from tests.running import Running

DRAIN_SECONDS = 180.0
PRODUCTION = {
    "POINTSMAN_HEARTBEAT_SECONDS": "3",
    "POINTSMAN_LEASE_SECONDS": "10",
    "POINTSMAN_STALE_SECONDS": "20",
    "POINTSMAN_SWEEP_SECONDS": "1",
    "POINTSMAN_FIRST_HINT_SECONDS": "5",
    "POINTSMAN_LOG_LEVEL": "warning",
}


class Pointsman:
    """The whole of Pointsman, as `pointsman run` starts it, with production's intervals."""

    name = "Pointsman"

    def __init__(self, folder: Path, targets: Mapping[str, str], workers: int) -> None:
        self._targets = targets
        self._running = Running(folder, {**PRODUCTION, "POINTSMAN_WORKERS": str(workers)})
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Pointsman:
        self._running.__enter__()
        for name, url in self._targets.items():
            self.urls[name] = self._running.callback(url)["triggerUrl"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def groups(self) -> dict[str, list[int]]:
        """Pids by group."""
        found: dict[str, list[int]] = {"API": [], "worker": [], "PostgreSQL": [], "Redis": []}
        marks = {
            "api.server": "API",
            "-m worker": "worker",
            "bin/postgres": "PostgreSQL",
            "valkey-server": "Redis",
        }
        assert self._running.process is not None
        for child in psutil.Process(self._running.process.pid).children():
            command = " ".join(child.cmdline())
            for mark, group in marks.items():
                if mark in command:
                    found[group].append(child.pid)
        return found

    def wait_until_executed(self, accepted: int, nginx: Nginx, before: int) -> float:
        """Wait until no run is left; when that was seen, in monotonic seconds."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._running.query("SELECT count(*) FROM runs") != [(0,)]:
            if time.monotonic() > deadline:
                raise TimeoutError("Pointsman did not execute everything in time")
            time.sleep(0.02)
        ended = time.monotonic()
        delivered = nginx.count() - before
        if delivered < accepted:
            raise RuntimeError(f"accepted {accepted}, delivered {delivered}")
        return ended

    def pause_workers(self, pause: bool) -> None:
        """Freeze or thaw the workers."""
        for pid in self.groups()["worker"]:
            os.kill(pid, signal.SIGSTOP if pause else signal.SIGCONT)


class Bare:
    """A Flask view that does task.delay(url, body), and a stock Celery worker; no database, no log."""

    name = "bare pipeline"

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        self._valkey = EmbeddedValkey(folder / "bare-valkey")
        self._targets = dict(targets)
        self._port = free_port()
        base = f"http://127.0.0.1:{self._port}"
        self.urls = {name: f"{base}/hook/{name}" for name in targets}
        self.constant_url = f"{base}/constant"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Bare:
        self._valkey.prepare()
        self._redis = self._valkey.spawn(subprocess.DEVNULL)
        self._valkey.wait_ready(self._redis)
        environment = {
            **os.environ,
            "BARE_REDIS_URL": self._valkey.url,
            "BARE_TARGETS": json.dumps(self._targets),
            "BARE_PORT": str(self._port),
        }
        cores = str(os.cpu_count() or 1)
        celery = ["celery", "-A", "tests.benchmarks.bare.tasks", "worker", "--pool", "prefork"]
        for arguments in (
            ["tests.benchmarks.bare.server"],
            [*celery, "--concurrency", cores, "--loglevel", "ERROR"],
        ):
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        self._wait_until_up()
        return self

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.post(self.constant_url, trust_env=False).status_code == 202:
                    return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._valkey.stop(self._redis)

    def groups(self) -> dict[str, list[int]]:
        """Pids by group."""
        api, worker = self._processes
        return {"API": [api.pid], "worker": [worker.pid], "PostgreSQL": [], "Redis": [self._redis.pid]}

    def wait_until_executed(self, accepted: int, nginx: Nginx, before: int) -> float:
        """Wait until the receiver has everything; when that was seen, in monotonic seconds."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while nginx.count() - before < accepted:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the bare pipeline delivered {nginx.count() - before} of {accepted} in time"
                )
            time.sleep(0.02)
        return time.monotonic()


Side = Pointsman | Bare
