"""One of two API processes is told to stop: its clients go on without an error.

The clients know the ports of both, as a load balancer does: each new connection goes to the other
one, whether that is leaving or not. Only who cannot connect at all tries the next port: then
nothing was sent.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from api import leaving
from deploy.local.ports import free_port
from deploy.local.state import DataFolder
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

CLIENTS = 20
STOPS = 3
CALLS_BEFORE = 400
"""So many calls are answered before a stop, and again after it."""

STOP_SECONDS = 10.0


@dataclass
class Second:
    """An API process beside the one of a running Pointsman, on a port of its own."""

    pointsman: Running
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    opened: list[http.client.HTTPConnection] = field(default_factory=list)

    def connection(self) -> http.client.HTTPConnection:
        """A connection to it, closed with the test."""
        self.opened.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15))
        return self.opened[-1]

    def start(self) -> None:
        data = DataFolder(Path(self.pointsman.environment["POINTSMAN_DATA_DIR"]))
        environment = self.pointsman.environment | {
            "POINTSMAN_PORT": str(self.port),
            "POINTSMAN_DATABASE_URL": self.pointsman.database_url,
            "POINTSMAN_REDIS_URL": self.pointsman.redis_url,
            "POINTSMAN_SECRET_KEYS": data.secret_keys(),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.server"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        eventually(self.answers, 20, "the second API process")

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> float:
        """Tell it to stop and wait for its end; the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(STOP_SECONDS) == 0
        finally:
            self.process.kill()
        return time.monotonic() - began


@pytest.fixture
def second(pointsman: Running) -> Iterator[Second]:
    second = Second(pointsman)
    second.start()
    yield second
    for connection in second.opened:
        connection.close()
    if second.process is not None:
        second.process.kill()
        second.process.wait()


class Client:
    """Calls a trigger URL again and again over a connection that it keeps until told otherwise.

    Between calls some pause, and do not look whether the connection has ended meanwhile.
    """

    def __init__(self, number: int, ports: list[int], path: str) -> None:
        self.accepted: list[str] = []
        self.broken: list[str] = []
        self._number = number
        self._pause_seconds = number % 5 * 0.01
        self._ports = itertools.islice(itertools.cycle(ports), number % len(ports), None)
        self._path = path
        self._connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self._pause_seconds):
            try:
                self._call()
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                self._close()
        self._close()

    def _call(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
        body = f"{self._number}/{len(self.accepted)}".encode()
        self._connection.request("POST", self._path, body=body)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status == 202:
            self.accepted.append(text.decode())
        else:
            self.broken.append(f"{answer.status} {text!r}")
        if answer.getheader("connection") == "close":
            self._close()

    def _connect(self) -> http.client.HTTPConnection:
        for port in self._ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
            try:
                connection.connect()
            except ConnectionRefusedError:
                continue
            return connection
        raise AssertionError("the ports go round for ever")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def calling(ports: list[int], paths: list[str]) -> Iterator[list[Client]]:
    """Clients that call these paths in turn, each in a thread."""
    clients = [Client(number, ports, paths[number % len(paths)]) for number in range(CLIENTS)]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_nobody_notices_a_planned_stop(pointsman: Running, second: Second, receiver: Receiver) -> None:
    """Fails when idle connections are closed under their clients' next call."""
    callbacks = [pointsman.callback(receiver.url("/ok"), name=name) for name in ("one", "two")]
    for callback in callbacks:
        pointsman.primary(callback, enabled=False)
    paths = [urlsplit(callback["triggerUrl"]).path for callback in callbacks]
    with calling([pointsman.port, second.port], paths) as clients:

        def answered() -> int:
            return sum(len(client.accepted) for client in clients)

        def more() -> None:
            target = answered() + CALLS_BEFORE
            eventually(lambda: answered() >= target, 30, f"{CALLS_BEFORE} more calls")

        for _ in range(STOPS):
            more()
            assert second.stop() < STOP_SECONDS
            more()
            second.start()
    broken = [error for client in clients for error in client.broken]
    assert broken == [], f"{len(broken)} of {answered()}"
    ids = {line for client in clients for line in client.accepted}
    ((recorded,),) = pointsman.query(
        "SELECT count(*) FROM triggers WHERE callback_id::text = ANY(%s)", [one["id"] for one in callbacks]
    )
    assert recorded == len(ids) == answered(), "each is recorded once"


def test_a_stop_lets_clients_go_and_takes_newcomers_meanwhile(pointsman: Running, second: Second) -> None:
    """What comes while it leaves is answered, and told to come back elsewhere."""
    kept = second.connection()
    kept.request("GET", "/healthz")
    first = kept.getresponse()
    first.read()
    assert first.getheader("connection") is None
    assert second.process is not None
    os.kill(second.process.pid, signal.SIGTERM)

    def is_leaving() -> bool:
        newcomer = second.connection()
        newcomer.request("GET", "/nowhere")
        answer = newcomer.getresponse()
        answer.read()
        newcomer.close()
        assert answer.status == 404
        return answer.getheader("connection") == "close"

    eventually(is_leaving, 2, "an answer that closes")
    kept.request("GET", "/healthz")
    last = kept.getresponse()
    assert (last.status, last.getheader("connection")) == (200, "close")
    last.read()
    kept.close()
    began = time.monotonic()
    assert second.process.wait(STOP_SECONDS) == 0
    assert time.monotonic() - began < 3, "nobody is connected any more"


def test_a_call_that_is_in_hand_is_answered_and_idle_clients_are_let_go_last(
    pointsman: Running, second: Second, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/hang"), timeoutDuration=60_000)
    waiting, idle = second.connection(), second.connection()
    idle.connect()
    waiting.request("POST", urlsplit(callback["triggerUrl"]).path, body=b"x", headers={"prefer": "wait=50"})
    eventually(lambda: receiver.receipts, 10, "the call is recorded and delivered")
    assert second.process is not None
    os.kill(second.process.pid, signal.SIGTERM)
    answer = waiting.getresponse()
    assert (answer.status, answer.getheader("connection")) == (202, "close")
    assert second.process.wait(STOP_SECONDS) == 0
    assert idle.sock.recv(1) == b""


LARGE_BYTES = 16 * 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell elsewhere")
def test_a_client_that_takes_nothing_of_its_answer_holds_up_no_stop(
    pointsman: Running, second: Second
) -> None:
    """Fails as a stop that uses up its last time."""
    target = pointsman.callback("http://127.0.0.1:9/", [{"type": "STORE", "config": {}}])
    pointsman.primary(target, enabled=False)
    trigger = pointsman.fire(target, content=b"x")
    with closing(psycopg2.connect(pointsman.database_url)) as database, database.cursor() as cursor:
        cursor.execute("UPDATE triggers SET body = %s WHERE id = %s", (b"y" * LARGE_BYTES, trigger))
        database.commit()
    stalled, whole = second.connection(), second.connection()
    for connection in (stalled, whole):
        headers = {"authorization": pointsman.api.headers["authorization"]}
        connection.request("GET", f"/api/v1/triggers/{trigger}/body", headers=headers)
    answer = whole.getresponse()
    assert answer.read() == b"y" * LARGE_BYTES
    assert answer.getheader("content-length") == str(LARGE_BYTES)
    whole.close()
    assert stalled.getresponse().status == 200
    assert second.stop() < leaving.LEAVE_SECONDS + leaving.STOP_SECONDS


NEWCOMERS = 60
QUICK = b"OPTIONS /t/x HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass
class Rush:
    """What became of callers that open a connection for each call, until they are refused."""

    answered: int = 0
    refused: int = 0
    broken: list[str] = field(default_factory=list)

    async def call(self, port: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                self.refused += 1
                return
            try:
                writer.write(QUICK)
                answer = await reader.read(4096)
                assert answer.startswith(b"HTTP/1.1 204"), answer
                self.answered += 1
            except (OSError, AssertionError) as error:
                self.broken.append(repr(error))
            finally:
                writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="newcomers cannot be kept out elsewhere")
def test_who_opens_a_connection_as_the_port_closes_is_answered_or_refused(second: Second) -> None:
    """Fails when the port closes over connections that were just opened: nobody could tell whether
    what came over them was heard.
    """
    rush = Rush()

    async def call_until_refused() -> None:
        callers = [asyncio.create_task(rush.call(second.port)) for _ in range(NEWCOMERS)]
        while rush.answered < CALLS_BEFORE:
            await asyncio.sleep(0.01)
        stopped = await asyncio.to_thread(second.stop)
        assert stopped < STOP_SECONDS
        await asyncio.wait_for(asyncio.gather(*callers), 20)

    for stop in range(STOPS):
        if stop:
            second.start()
        rush.answered = 0
        asyncio.run(call_until_refused())
    assert rush.broken == [], f"{len(rush.broken)} broken"
    assert rush.refused == NEWCOMERS * STOPS
