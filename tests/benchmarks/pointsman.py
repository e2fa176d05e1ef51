"""The side that is measured: the whole of Pointsman, as `pointsman run` starts it, of this checkout
or of another.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg2

from tests.benchmarks.checkout import Checkout
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Group
from tests.benchmarks.sides import DRAIN_SECONDS, POLL_SECONDS, Drained
from tests.running import Running

MARKS = {"api.server": "API", "-m worker": "worker", "bin/postgres": "PostgreSQL", "valkey-server": "Redis"}


class Pointsman:
    """One `pointsman run` with the settings that it has by default.

    targets: a callback is made for each, and its trigger URL is in `urls` under the same name.
    capacity 0: the default. checkout: whose code runs.
    """

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, str],
        *,
        workers: int = 1,
        api_processes: int = 1,
        capacity: int = 0,
        environment: Mapping[str, str] | None = None,
        checkout: Checkout | None = None,
    ) -> None:
        self._targets = targets
        self._checkout = checkout or Checkout.this()
        self.name = checkout.name if checkout else "Pointsman"
        settings = {"POINTSMAN_WORKERS": str(workers), "POINTSMAN_API_PROCESSES": str(api_processes)}
        if capacity:
            settings["POINTSMAN_CAPACITY"] = str(capacity)
        folder.mkdir()
        self.running = Running(
            folder,
            {**settings, **(environment or {})},
            intervals={},
            checkout=self._checkout.folder,
            interpreter=self._checkout.interpreter,
        )
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Pointsman:
        with ExitStack() as stack:
            stack.push(self.running)
            self.running.start()
            self._must_run_its_checkout()
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

    def _must_run_its_checkout(self) -> None:
        groups = self.groups()
        for group in ("API", "worker", "the rest"):
            for pid in groups[group].pids:
                self._checkout.must_be_run_by(pid)

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
        """Wait until no run is left. deliveries: of each trigger, at least.

        PostgreSQL is asked only once nginx has everything: the question costs it a walk over dead
        rows.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        while nginx.count() - before < accepted * deliveries or self.ask("SELECT EXISTS (SELECT FROM runs)"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not execute everything in time")
            time.sleep(POLL_SECONDS)
        return Drained(accepted, time.monotonic())

    def tidy(self) -> None:
        """Vacuum, so that autovacuum finds nothing to do in another side's turn, and write what is
        dirty.
        """
        self.do("VACUUM (ANALYZE)")
        self.do("CHECKPOINT")

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
