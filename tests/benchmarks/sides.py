"""What is compared: Pointsman, and the bare pipeline.

Each side has URLs to post to (`nginx` for throughput, `sink` for latency), groups of processes whose
cost is read, and waits until everything that it accepted was executed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import psycopg2

from deploy.local.ports import free_port
from deploy.local.valkey import EmbeddedValkey
from shared.config import Settings
from tests.benchmarks.children import Child
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Group
from tests.running import QUICK, Running

DRAIN_SECONDS = 180.0
QUIET_SECONDS = 0.5  # the bare pipeline has ended when so long nothing has come: it keeps no count
POLL_SECONDS = 0.02
START_SECONDS = 30.0

MARKS = {"api.server": "API", "-m worker": "worker", "bin/postgres": "PostgreSQL", "valkey-server": "Redis"}


@dataclass(frozen=True, slots=True)
class Drained:
    """executed: triggers that have ended. ended: when the last was seen to end, in monotonic seconds."""

    executed: int
    ended: float


class Pointsman:
    """The whole of Pointsman, as `pointsman run` starts it, with the intervals that it has by default.

    targets: a callback is made for each, and its trigger URL is in `urls` under the same name.
    """

    name = "Pointsman"

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, str],
        *,
        workers: int = 1,
        api_processes: int = 1,
        capacity: int = 0,
    ) -> None:
        self._targets = targets
        fields = Settings.model_fields
        intervals = {name: str(fields[name.removeprefix("POINTSMAN_").lower()].default) for name in QUICK}
        environment = {
            **intervals,
            "POINTSMAN_WORKERS": str(workers),
            "POINTSMAN_API_PROCESSES": str(api_processes),
            "POINTSMAN_CAPACITY": str(capacity or fields["capacity"].default),
        }
        folder.mkdir()
        self.running = Running(folder, environment)
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Pointsman:
        with ExitStack() as stack:
            stack.push(self.running)
            self.running.start()
            for name, url in self._targets.items():
                self.urls[name] = self.running.callback(url)["triggerUrl"]
            self._database = psycopg2.connect(self.running.database_url)
            self._database.autocommit = True
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self.running.__exit__(kind, error, trace)

    def groups(self) -> dict[str, Group]:
        """Its processes; what `pointsman run` itself needs is «the rest»."""
        found: dict[str, list[int]] = {group: [] for group in MARKS.values()}
        assert self.running.process is not None
        supervisor = self.running.process.pid
        for child in psutil.Process(supervisor).children():
            command = " ".join(child.cmdline())
            for mark, group in MARKS.items():
                if mark in command:
                    found[group].append(child.pid)
        rest = Group((supervisor,), below=False)
        return {**{name: Group(tuple(pids)) for name, pids in found.items()}, "the rest": rest}

    def drain(self, accepted: int, nginx: Nginx, before: int, deliveries: int = 1) -> Drained:
        """Wait until no run is left. before: nginx's count before the burst. deliveries: of each trigger, at least.

        PostgreSQL is asked only once nginx has everything: the question costs it a walk over dead rows.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        while nginx.count() - before < accepted * deliveries or self.ask("SELECT EXISTS (SELECT FROM runs)"):
            if time.monotonic() > deadline:
                raise TimeoutError("Pointsman did not execute everything in time")
            time.sleep(POLL_SECONDS)
        return Drained(accepted, time.monotonic())

    def ask(self, question: str, *parameters: Any) -> Any:
        """One value from its PostgreSQL."""
        with self._database.cursor() as cursor:
            cursor.execute(question, parameters)
            return cursor.fetchone()[0]

    def do(self, statement: str) -> None:
        """Run a statement in its PostgreSQL, outside of a transaction."""
        with self._database.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def frozen(self, group: str) -> Iterator[None]:
        """Freeze its processes of one group for the length of a block."""
        pids = self.groups()[group].pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


class Bare:
    """A Flask view that does task.delay(url, body), and a stock Celery worker; no database, no log."""

    name = "bare pipeline"

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._valkey = EmbeddedValkey(self._folder / "valkey")
        self._targets = dict(targets)
        self._port, self._constant_port = free_port(), free_port()
        base = f"http://127.0.0.1:{self._port}"
        self.urls = {name: f"{base}/hook/{name}" for name in targets}
        self.constant_urls = {
            "WSGI": f"{base}/constant",
            "shell": f"http://127.0.0.1:{self._constant_port}/constant",
        }

    def __enter__(self) -> Bare:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        self._valkey.prepare()
        self._redis = self._valkey.spawn(subprocess.DEVNULL)
        stack.callback(self._valkey.stop, self._redis)
        self._valkey.wait_ready(self._redis)
        environment = {
            "BARE_REDIS_URL": self._valkey.url,
            "BARE_TARGETS": json.dumps(self._targets),
            "CONSTANT_PORT": str(self._constant_port),
        }
        threads = str(Settings.model_fields["api_threads"].default)
        cores = str(os.cpu_count() or 1)
        commands = {
            "api": (
                f"granian --interface wsgi --workers 1 --blocking-threads {threads} --http 1 --no-ws "
                f"--no-log --port {self._port} tests.benchmarks.bare.app:app"
            ),
            "worker": (
                "celery -A tests.benchmarks.bare.tasks worker --pool prefork --loglevel ERROR "
                f"--concurrency {cores}"
            ),
            "constant": "tests.benchmarks.bare.server",
        }
        self._children = {}
        for name, command in commands.items():
            child = Child(command.split(), environment, self._folder / f"{name}.log")
            stack.callback(child.stop)
            self._children[name] = child
        for url in self.constant_urls.values():
            self._wait_until_up(url)

    def _wait_until_up(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            for child in self._children.values():
                child.must_live()
            try:
                if httpx.post(url, trust_env=False).status_code == 202:
                    return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def groups(self) -> dict[str, Group]:
        """Its processes."""
        return {
            "API": Group((self._children["api"].pid,)),
            "worker": Group((self._children["worker"].pid,)),
            "PostgreSQL": Group(),
            "Redis": Group((self._redis.pid,)),
            "the rest": Group(),
        }

    def drain(self, accepted: int, nginx: Nginx, before: int, deliveries: int = 1) -> Drained:
        """Wait until nginx has all that was accepted and nothing more comes.

        Answers that came too late for wrk were accepted too: they count as executed, with the time that they took.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        executed, ended = nginx.count() - before, time.monotonic()
        while executed < accepted or time.monotonic() < ended + QUIET_SECONDS:
            time.sleep(POLL_SECONDS)
            now = nginx.count() - before
            if now > executed:
                executed, ended = now, time.monotonic()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the bare pipeline delivered {executed} of {accepted} in time")
        return Drained(executed, ended)


Side = Pointsman | Bare
