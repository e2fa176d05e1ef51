"""The side that Pointsman is measured by: a bare Flask + Celery pipeline, tuned as whoever
maintains one would tune it.

It keeps no count of what it has executed: nginx does. `bare` loses what it holds when anything
dies; `bare, durable` commits a row before it hands a trigger to Celery and acknowledges what it has
delivered.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType

import httpx
import psycopg2

from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey
from tests.benchmarks.bare import table
from tests.benchmarks.children import Child
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Group
from tests.benchmarks.sides import DRAIN_SECONDS, POLL_SECONDS, Drained

# Of its API: the number that served it best; more of them fight for the interpreter.
THREADS = 4

# Of which some wait for a commit.
DURABLE_THREADS = 8

# It has ended when so long nothing has come: it keeps no count.
QUIET_SECONDS = 0.5
START_SECONDS = 30.0

# It loses what it holds in any case.
NO_AOF = {"appendonly": "no"}


class Bare:
    """A Flask view that does task.delay(url, body), and a stock Celery worker, prefork, with a
    child per core.

    durable: with a PostgreSQL of its own.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str], *, durable: bool = False) -> None:
        self.name = "bare, durable" if durable else "bare"
        self._threads = DURABLE_THREADS if durable else THREADS
        self._folder = folder
        self._folder.mkdir()
        self._valkey = EmbeddedValkey(self._folder / "valkey", options=NO_AOF)
        self._postgres = EmbeddedPostgres(self._folder / "postgres") if durable else None
        self._postgres_group = Group()
        self._targets = dict(targets)
        self._port, self._constant_port = free_port(), free_port()
        base = f"http://127.0.0.1:{self._port}"
        self.urls = {name: f"{base}/{'durable' if durable else 'hook'}/{name}" for name in targets}
        self.constant_urls = {
            "WSGI": f"{base}/constant",
            "shell": f"http://127.0.0.1:{self._constant_port}/constant",
        }

    def __enter__(self) -> Bare:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self._valkey.prepare()
        self._redis = self._valkey.spawn(subprocess.DEVNULL)
        stack.callback(self._valkey.stop, self._redis)
        self._valkey.wait_ready(self._redis)
        environment = {
            "BARE_REDIS_URL": self._valkey.url,
            "BARE_TARGETS": json.dumps(self._targets),
            "BARE_THREADS": str(self._threads),
            "CONSTANT_PORT": str(self._constant_port),
        }
        if self._postgres is not None:
            environment["BARE_DATABASE_URL"] = self._start_postgres(self._postgres, stack)
        self._children = {}
        for name, command in self._commands().items():
            child = Child(command.split(), environment, self._folder / f"{name}.log")
            stack.callback(child.stop)
            self._children[name] = child
        for url in self.constant_urls.values():
            self._wait_until_up(url)

    def _start_postgres(self, postgres: EmbeddedPostgres, stack: ExitStack) -> str:
        postgres.prepare()
        process = postgres.spawn(subprocess.DEVNULL)
        stack.callback(postgres.stop, process)
        postgres.wait_ready(process)
        postgres.ensure_database()
        self._database = stack.enter_context(closing(psycopg2.connect(postgres.url)))
        self._database.autocommit = True
        self._do(table.CREATE)
        self._postgres_group = Group((process.pid,))
        return postgres.url

    def _commands(self) -> dict[str, str]:
        return {
            "api": (
                f"granian --interface wsgi --workers 1 --blocking-threads {self._threads} --http 1 --no-ws "
                f"--no-log --port {self._port} tests.benchmarks.bare.app:app"
            ),
            "worker": (
                "celery -A tests.benchmarks.bare.tasks worker --pool prefork --loglevel ERROR "
                f"--without-gossip --without-mingle --concurrency {os.cpu_count() or 1}"
            ),
            "constant": "tests.benchmarks.bare.server",
        }

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

    def groups(self) -> dict[str, Group]:
        """Its processes."""
        return {
            "API": Group((self._children["api"].pid,)),
            "worker": Group((self._children["worker"].pid,)),
            "PostgreSQL": self._postgres_group,
            "Redis": Group((self._redis.pid,)),
            "the rest": Group(),
        }

    def drain(self, accepted: int, nginx: Nginx, before: int, deliveries: int = 1) -> Drained:
        """Wait until nginx has all that was accepted and nothing more comes.

        Answers that came too late for wrk were accepted too: they count as executed, with the time
        that they took.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        executed, ended = nginx.count() - before, time.monotonic()
        while executed < accepted or time.monotonic() < ended + QUIET_SECONDS:
            time.sleep(POLL_SECONDS)
            now = nginx.count() - before
            if now > executed:
                executed, ended = now, time.monotonic()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} delivered {executed} of {accepted} in time")
        return Drained(executed, ended)

    def tidy(self) -> None:
        """What autovacuum and the checkpointer would do later; nothing where there is no
        PostgreSQL.
        """
        if self._postgres is not None:
            self._do("VACUUM (ANALYZE) triggers")
            self._do("CHECKPOINT")

    def _do(self, statement: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(statement)
