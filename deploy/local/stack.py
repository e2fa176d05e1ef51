"""`pointsman run`: the whole of Pointsman on one machine, from servers to workers.

In order: take the data folder, start PostgreSQL and Valkey unless settings name others (for which
it waits), migrate, make the first admin and the demo, start receiver, API and workers, say where
everything is, look after them, and on Ctrl-C stop them in the opposite order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from api.leaving import LEFT_SECONDS
from api.work import Workshop
from deploy.local.bootstrap import Admin, Demo, ensure_admin, ensure_demo
from deploy.local.console import Console
from deploy.local.ports import free_port, keep_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.server import EmbeddedServer
from deploy.local.state import DataFolder
from deploy.local.supervisor import Child, Supervisor, python_module
from deploy.local.valkey import EmbeddedValkey
from migrations.migrate import upgrade
from shared.config import PREFIX, Settings
from shared.crypto import SecretBox, new_key
from shared.errors import StartupError
from shared.keyring.checks import refuse_misfit
from shared.postgres.connections import open_database
from shared.postgres.fitness import explained
from shared.process import leave_no_core
from shared.startup import wait_for_postgres, wait_for_redis

READY_SECONDS = 30.0

# Beyond its grace time, in which a worker writes what it gives back.
RELEASE_SECONDS = 4.0

# Beyond its leaving, in which an API process commits what is queued.
CLOSE_SECONDS = 2.0

# So that Ctrl-C is over within 10 s.
LOCAL_DRAIN_SECONDS = "4"

# Localhost means both.
LOCAL_EGRESS_ALLOW = "127.0.0.0/8,::1/128"
LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class Stack:
    """One run of the whole."""

    settings: Settings
    console: Console
    data: DataFolder
    supervisor: Supervisor
    environment: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """Run until a stop is requested; the exit code of the command."""
        self.data.take(_local_url(self.settings))
        self._stop_on_signals()
        started = time.monotonic()
        try:
            self._start()
            self.console.say(f"ready after {time.monotonic() - started:.1f} s")
            self.supervisor.watch()
        except _Stopped:
            pass
        finally:
            began = time.monotonic()
            self.console.say("stopping")
            self.supervisor.stop()
            self.data.remove("run.json")
            self.console.say(f"stopped after {time.monotonic() - began:.1f} s")
        return 1 if self.supervisor.failed else 0

    def _stop_on_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: self.supervisor.request_stop())

    def _start(self) -> None:
        _must_be_free(self.settings.host, self.settings.port)
        for port in self._promised_ports():
            keep_port(port)
        self.environment = self._child_environment()
        self._servers()
        self._wait_for_servers()
        url, keys = (self.environment[PREFIX + name] for name in ("DATABASE_URL", "SECRET_KEYS"))
        self._keep_keys(url, keys)
        self._step("migrating the database", lambda: upgrade(url, keys))
        receiver_url = self._receiver() if self.settings.environment == "local" else None
        admin, demo = self._bootstrap(receiver_url)
        if admin.password is not None:  # at once: should the rest of the start fail, it would be lost
            self.console.banner(_first_admin(admin))
        self._processes()
        self._wait_until_ready()
        found_at = {
            "url": _local_url(self.settings),
            "databaseUrl": self.environment[PREFIX + "DATABASE_URL"],
            "redisUrl": self.environment[PREFIX + "REDIS_URL"],
        }
        self.data.write("run.json", {**found_at, "pid": os.getpid()})
        self.console.banner(_banner(self.settings, demo))

    def _promised_ports(self) -> list[int]:
        """What the API and the workers bind later, and no server of ours may draw meanwhile."""
        first = self.settings.metrics_port
        count = max(self.settings.workers, self.settings.api_processes)
        return [self.settings.port, *(range(first, first + count) if first else ())]

    def _step(self, what: str, do: Callable[[], object]) -> None:
        if self.supervisor.is_stopping:
            raise _Stopped
        self.console.say(what)
        do()

    def _child_environment(self) -> dict[str, str]:
        """What children inherit: our environment and what this run decides for them."""
        environment = dict(os.environ)
        if self.settings.secret_keys is None:
            known = self.data.secret_keys() if self.data.has_secret_keys else new_key()
            environment[PREFIX + "SECRET_KEYS"] = known
        if self.settings.environment == "local":
            environment.setdefault(PREFIX + "EGRESS_ALLOW", LOCAL_EGRESS_ALLOW)
            environment.setdefault(PREFIX + "DRAIN_SECONDS", LOCAL_DRAIN_SECONDS)
        environment[PREFIX + "PORT"] = str(self.settings.port)
        environment["PYTHONUNBUFFERED"] = "1"
        return environment

    def _keep_keys(self, url: str, keys: str) -> None:
        """Refuse a key that was made just now and does not fit; else write it down, before it seals
        anything.
        """
        if self.settings.secret_keys is None and not self.data.has_secret_keys:
            refuse_misfit(url, keys)
            self.data.keep_secret_keys(keys)

    def _servers(self) -> None:
        if self.settings.database_url is None:
            postgres = EmbeddedPostgres(self.data.folder / "postgres")
            self._start_server("postgres", postgres)
            postgres.ensure_database()
            self.environment[PREFIX + "DATABASE_URL"] = postgres.url
        if self.settings.redis_url is None:
            valkey = EmbeddedValkey(self.data.folder / "valkey")
            self._start_server("valkey", valkey)
            self.environment[PREFIX + "REDIS_URL"] = valkey.url

    def _start_server(self, name: str, server: EmbeddedServer) -> None:
        self._step(f"starting {name}", server.prepare)
        child = Child(name, lambda: server.spawn(subprocess.PIPE), server.stop, last=True)
        server.wait_ready(self.supervisor.start(child))

    def _wait_for_servers(self) -> None:
        seconds = self.settings.start_wait_seconds
        for wait, name in ((wait_for_postgres, "DATABASE_URL"), (wait_for_redis, "REDIS_URL")):
            wait(self.environment[PREFIX + name], seconds, self.console.say, self._pause)

    def _pause(self, seconds: float) -> None:
        if self.supervisor.is_stopping_within(seconds):
            raise _Stopped

    def _receiver(self) -> str:
        port = self.data.read("demo.json").get("receiverPort")
        if not isinstance(port, int) or not _is_free(LOOPBACK, port):
            port = free_port()
        spawn = python_module("deploy.local.receiver", [str(port)], self.environment)
        self.supervisor.start(Child("receiver", spawn))
        return f"http://{LOOPBACK}:{port}"

    def _bootstrap(self, receiver_url: str | None) -> tuple[Admin, Demo | None]:
        """The first admin, and the demo where there is a receiver for it: on a developer's
        machine.
        """
        database = open_database(self.environment[PREFIX + "DATABASE_URL"], "bootstrap", pool_size=1)
        workshop = Workshop(database, self.settings, SecretBox(self.environment[PREFIX + "SECRET_KEYS"]))
        password = self.settings.admin_password
        known = self.data.read("demo.json")
        with explained(self.environment[PREFIX + "DATABASE_URL"]), workshop.open() as work:
            admin = ensure_admin(
                work, self.settings.admin_email, password.get_secret_value() if password else None
            )
            demo = receiver_url and ensure_demo(work, admin.user_id, receiver_url, known)
        database.dispose()
        if demo and receiver_url:
            self.data.write("demo.json", self._demo_state(demo, receiver_url))
        return admin, demo or None

    def _demo_state(self, demo: Demo, receiver_url: str) -> dict[str, object]:
        return {
            "callbackId": str(demo.callback_id),
            "triggerUrl": demo.trigger_url,
            "apiKey": demo.api_key,
            "receiverUrl": receiver_url,
            "receiverPort": int(receiver_url.rsplit(":", 1)[1]),
        }

    def _processes(self) -> None:
        if self.supervisor.is_stopping:
            raise _Stopped
        drain_seconds = float(self.environment.get(PREFIX + "DRAIN_SECONDS", self.settings.drain_seconds))
        for module, name, count, stop_seconds in (
            ("api.server", "api", self.settings.api_processes, LEFT_SECONDS + CLOSE_SECONDS),
            ("worker", "worker", self.settings.workers, drain_seconds + RELEASE_SECONDS),
        ):
            for number in range(1, count + 1):
                label = name if count == 1 else f"{name}-{number}"
                environment = dict(self.environment)
                if self.settings.metrics_port:
                    environment[PREFIX + "METRICS_PORT"] = str(self.settings.metrics_port + number - 1)
                spawn = python_module(module, [], environment)
                self.supervisor.start(Child(label, spawn, stop_seconds=stop_seconds))

    def _wait_until_ready(self) -> None:
        """Wait until the API answers that it and a worker are ready."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.supervisor.is_stopping:
                raise _Stopped
            try:
                if httpx.get(f"{_local_url(self.settings)}/readyz", timeout=2, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass  # it is still starting
            time.sleep(0.1)
        raise StartupError(
            f"The API or the worker is not ready after {READY_SECONDS:g} s.",
            hint="Their lines above say why.",
        )


class _Stopped(Exception):
    """A stop was requested during the start."""


def run(settings: Settings) -> int:
    """Run everything; returns the exit code."""
    if settings.port == 0:
        settings = settings.model_copy(update={"port": free_port()})
    leave_no_core()
    console = Console(settings.log_format)
    return Stack(settings, console, DataFolder(settings.data_dir), Supervisor(console)).run()


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _must_be_free(host: str, port: int) -> None:
    if not _is_free(host, port):
        raise StartupError(
            f"Port {port} on {host} is taken by another program.",
            hint="Set POINTSMAN_PORT to a free one, e.g. `POINTSMAN_PORT=8081 make run`.",
        )


def _local_url(settings: Settings) -> str:
    host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{host}:{settings.port}"


def _first_admin(admin: Admin) -> str:
    return "\n".join(
        (
            "",
            "  The first admin was made:",
            "",
            f"    e-mail     {admin.email}",
            f"    password   {admin.password}",
            "",
            "  The password is shown only now. Another one: .venv/bin/pointsman admin password",
            "",
        )
    )


def _banner(settings: Settings, demo: Demo | None) -> str:
    lines = ["", f"  Pointsman is running at {settings.base_url}"]
    if demo is not None and demo.trigger_url is not None:
        lines += [
            "",
            "  Trigger the demo callback:",
            "",
            f"    curl -X POST {demo.trigger_url} -H 'content-type: application/json' -d '{{\"order\": 42}}'",
            "",
            "  The answer's statusUrl shows how it went. To watch its steps live: .venv/bin/pointsman demo",
        ]
    lines += ["", "  Stop with Ctrl-C; the data is kept.", ""]
    return "\n".join(lines)
