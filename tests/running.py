"""A whole Pointsman, started as a user starts it: `pointsman run` in a process of its own.

`Running` knows its URL, its admin and the pids of its processes, so that a test can kill them.
Everything is on free ports and in a temporary folder; stop() must leave no process behind.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2

from deploy.local.ports import free_port
from deploy.local.state import DataFolder
from tests.sent import Sent

ADMIN = ("admin@example.com", "correct horse battery staple")
START_SECONDS = 60.0
READY = re.compile(r"(?<!not )ready after")

MARKS = {
    "api": "api.server",
    "worker": "-m worker",
    "receiver": "local.receiver",
    "postgres": "bin/postgres",
    "valkey": "valkey-server",
}
"""By what the command lines of its processes are told apart."""

SUSPECTS = "worker.suspects"

# Short intervals, so that repair can be watched; they agree with one another as config demands.
QUICK = {
    "POINTSMAN_HEARTBEAT_SECONDS": "0.5",
    "POINTSMAN_LEASE_SECONDS": "3",
    "POINTSMAN_STALE_SECONDS": "4",
    "POINTSMAN_SWEEP_SECONDS": "0.3",
    "POINTSMAN_ACCEPT_TIMEOUT_SECONDS": "3",
    "POINTSMAN_FIRST_HINT_SECONDS": "3.5",
    "POINTSMAN_BODY_TIMEOUT_SECONDS": "2",
    "POINTSMAN_DRAIN_SECONDS": "2",
}

# Shorter still, for tests that kill workers one after the other and wait for each to be found dead.
QUICKER = {
    "POINTSMAN_HEARTBEAT_SECONDS": "0.4",
    "POINTSMAN_LEASE_SECONDS": "1.5",
    "POINTSMAN_STALE_SECONDS": "2",
    "POINTSMAN_ACCEPT_TIMEOUT_SECONDS": "2",
    "POINTSMAN_FIRST_HINT_SECONDS": "2.2",
}


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the condition gives something true and return it; fail saying what was waited
    for.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; last seen: {found!r}")
        time.sleep(0.02)


class Running:
    """One `pointsman run`. Use as a context manager; `environment` overrides settings.

    intervals: of repair; {} for those that Pointsman has by default. checkout: the folder of the
    code that is to run, interpreter: what runs it; by default those of the tests.

    sent: what was sent for a trigger that was accepted, by its id. calls: by the path of a
    callback's trigger URL, what its actions are to call: action id → path with query.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        intervals: Mapping[str, str] = QUICK,
        checkout: Path | None = None,
        interpreter: str = sys.executable,
    ) -> None:
        self.folder = folder
        self._checkout = checkout
        self._interpreter = interpreter
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
        self.environment = {
            **inherited,
            **intervals,
            # before all else, since an editable install names another checkout
            **({"PYTHONPATH": str(checkout)} if checkout else {}),
            "POINTSMAN_DATA_DIR": str(folder / "data"),
            "POINTSMAN_PORT": str(self.port),
            "POINTSMAN_ADMIN_EMAIL": ADMIN[0],
            "POINTSMAN_ADMIN_PASSWORD": ADMIN[1],
            **(environment or {}),
        }
        self.log_path = folder / "run.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._api: httpx.Client | None = None
        self.sent: dict[str, Sent] = {}
        self.calls: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Running:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            sys.stderr.write(
                f"--- last lines of {self.log_path}\n" + "\n".join(self.log().splitlines()[-60:]) + "\n"
            )

    def start(self) -> None:
        """Start and wait until it says that it is ready."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [self._interpreter, "-m", "deploy.cli", "run"],
                cwd=self._checkout,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        before = len(READY.findall(self.log()))
        process = self.process

        def is_ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"pointsman run ended with {process.returncode}:\n{self.log()[-4000:]}")
            return len(READY.findall(self.log())) > before

        eventually(is_ready, START_SECONDS, "«ready after» in the log")

    def stop(self, number: signal.Signals = signal.SIGINT, seconds: float = 15.0) -> float:
        """Ask it to stop and wait; returns how long it took, in seconds."""
        if self._api is not None:
            self._api.close()
            self._api = None
        if self.process is None:
            return 0.0
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in self.pids().values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"pointsman run did not stop within {seconds:g} s") from None
        self.process = None
        return time.monotonic() - started

    def log(self) -> str:
        """Everything it has printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def pids(self) -> dict[str, int]:
        """The pids of its processes by name: api, worker, receiver, postgres, valkey; the last of
        several.
        """
        assert self.process is not None
        found: dict[str, int] = {}
        for pid in _children_of(self.process.pid):
            command = _command_of(pid)
            found.update({name: pid for name, mark in MARKS.items() if mark in command})
        return found

    def pid_of(self, name: str) -> int:
        """The pid of one of its processes, waiting for it to be there."""
        pid: int = eventually(lambda: self.pids().get(name), 15, f"a process of {name}")
        return pid

    def all_pids(self, name: str) -> list[int]:
        """The pids of its processes of one kind."""
        assert self.process is not None
        return [
            pid
            for pid in _children_of(self.process.pid)
            if MARKS[name] in (command := _command_of(pid)) and SUSPECTS not in command
        ]

    def suspects(self) -> dict[str, int]:
        """The pids of the processes of its workers' suspects, by the worker id that each has."""
        found: dict[str, int] = {}
        for worker in self.all_pids("worker"):
            for pid in _children_of(worker):
                command = _command_of(pid).split()
                if SUSPECTS in command:
                    found[command[command.index(SUSPECTS) + 1]] = pid
        return found

    def signal_pid(self, pid: int, number: str) -> None:
        """Send one process a signal, by the signal's name."""
        os.kill(pid, signal.Signals[number])

    def kill(self, name: str) -> None:
        """kill -9 one of its processes."""
        os.kill(self.pid_of(name), signal.SIGKILL)

    def signal(self, name: str, number: str) -> None:
        """Send one of its processes a signal, by the signal's name."""
        os.kill(self.pid_of(name), signal.Signals[number])

    @property
    def api(self) -> httpx.Client:
        """The management API, logged in as the admin."""
        if self._api is None:
            client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
            answer = client.post("/api/v1/auth/login", json={"email": ADMIN[0], "password": ADMIN[1]})
            client.headers["authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"
            self._api = client
        return self._api

    @property
    def database_url(self) -> str:
        """Where its PostgreSQL is."""
        return str(DataFolder(self.folder / "data").read("run.json")["databaseUrl"])

    @property
    def redis_url(self) -> str:
        """Where its Redis is."""
        return str(DataFolder(self.folder / "data").read("run.json")["redisUrl"])

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask its PostgreSQL."""
        connection = psycopg2.connect(self.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def callback(
        self,
        url: str,
        actions: list[dict[str, Any]] | None = None,
        *,
        api: httpx.Client | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Create a callback that delivers to `url`, with further actions behind the primary one.

        api: of the tenant whose it is; the admin's, if none is given.
        """
        api = api or self.api
        body = {"name": "test", "callbackUrl": url, **fields}
        made: dict[str, Any] = _ok(api.post("/api/v1/callbacks", json=body))
        path = f"/api/v1/callbacks/{made['id']}/actions"
        (primary,) = _ok(api.get(path))["items"]
        made["actions"] = [_ok(api.post(path, json=action)) for action in actions or []]
        urls = {primary["id"]: url}
        for one, action in zip(made["actions"], actions or [], strict=True):
            urls[one["id"]] = action.get("config", {}).get("url", "")
        self.calls[urlsplit(made["triggerUrl"]).path] = {
            action_id: urlsplit(called)._replace(scheme="", netloc="").geturl()
            for action_id, called in urls.items()
        }
        return made

    def primary(self, callback: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Change a callback's primary action."""
        return self.primary_as(self.api, callback, changes)

    def primary_as(
        self, api: httpx.Client, callback: dict[str, Any], changes: dict[str, Any]
    ) -> dict[str, Any]:
        """The same as another tenant."""
        listed = _ok(api.get(f"/api/v1/callbacks/{callback['id']}/actions"))["items"]
        primary = next(a for a in listed if a["config"].get("target") == "callback_url")
        return _ok(api.patch(f"/api/v1/actions/{primary['id']}", json=changes))

    def fire(self, callback: dict[str, Any], **request: Any) -> str:
        """Call a trigger URL; the id of the accepted trigger. Pieces of content go in chunks."""
        pieces = None
        if not isinstance(request.get("content", b""), bytes | str):
            pieces = list(request["content"])
            request["content"] = iter(pieces)
        answer = httpx.request(
            request.pop("method", "POST"), callback["triggerUrl"], trust_env=False, **request
        )
        assert answer.status_code == 202, answer.text
        return self.note(answer, pieces)

    def note(self, answer: httpx.Response, pieces: list[bytes] | None = None) -> str:
        """Keep what was sent for an accepted trigger; its id. pieces: of a body in chunks."""
        trigger_id, request = str(answer.json()["triggerId"]), answer.request
        content_type = request.headers.get("content-type")
        body = request.content if pieces is None else b"".join(pieces)
        self.sent[trigger_id] = Sent(request.url.path, body, content_type)
        return trigger_id

    def trigger(self, trigger_id: str) -> dict[str, Any]:
        """A trigger with its executions."""
        return _ok(self.api.get(f"/api/v1/triggers/{trigger_id}"))

    def ended(self, trigger_id: str, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until a trigger is SUCCESS or FAILED and return it."""

        def settled() -> dict[str, Any] | None:
            trigger = self.trigger(trigger_id)
            return trigger if trigger["status"] in ("SUCCESS", "FAILED") else None

        found: dict[str, Any] = eventually(settled, seconds, f"the end of trigger {trigger_id}")
        return found


def _ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    found: dict[str, Any] = answer.json()
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
