"""How long an API process holds a connection on which nothing happens, or too little."""

from __future__ import annotations

import itertools
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shared.config import Settings
from tests.peers.receiver import Receiver
from tests.running import Running

REQUEST = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
HEAD_SECONDS = 10.0
LOOKS_SECONDS = 6.0
"""How much later than that a head is ended at most: two looks, and a busy machine."""

# Longer than the kernel's clock takes to tell what came from what was sent.
TICK_SECONDS = 0.05

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="heads have no bound of their own elsewhere")


class Client:
    """One connection, by hand."""

    def __init__(self, pointsman: Running) -> None:
        self._socket = socket.create_connection(("127.0.0.1", pointsman.port), timeout=40)
        self._began = time.monotonic()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next bytes; empty when the connection has ended."""
        try:
            return self._socket.recv(4096)
        except ConnectionResetError:
            return b""

    def answered(self) -> bool:
        self.send(REQUEST)
        return self.receive().startswith(b"HTTP/1.1 200")

    def begin(self, part: bytes) -> None:
        """Send the beginning of a head; its time runs from here."""
        self._began = time.monotonic()
        self.drip(part, TICK_SECONDS)

    def ended_after(self) -> float:
        """Wait for the end of the connection; the seconds since the beginning."""
        assert self.receive() == b""
        return time.monotonic() - self._began

    def drip(self, data: Iterable[int], pause_seconds: float) -> None:
        """Send byte by byte, until the connection ends."""
        for byte in data:
            readable, _, _ = select.select([self._socket], [], [], pause_seconds)
            if readable:
                return
            self.send(bytes([byte]))

    def drips_for(self) -> float:
        """Drip a head without end; the seconds until the connection ended."""
        self.begin(REQUEST[:5])
        self.drip(itertools.repeat(ord("x")), 0.25)
        return self.ended_after()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def clients(pointsman: Running, count: int) -> Iterator[list[Client]]:
    with ExitStack() as opened:
        made = [Client(pointsman) for _ in range(count)]
        for client in made:
            opened.callback(client.close)
        yield made


def test_a_load_balancer_closes_an_idle_connection_before_we_do() -> None:
    """Most wait 60 seconds. Fails when a caller's request meets a connection that we just ended."""
    assert Settings().keep_alive_seconds > 60


@LINUX
def test_a_head_has_ten_seconds_and_who_is_idle_or_waits_has_more(
    pointsman: Running, receiver: Receiver
) -> None:
    """Fails when all have one limit: then idle connections end early, or heads drip, or a caller
    that waits for an outcome is taken for a slow head.
    """
    hangs = pointsman.callback(receiver.url("/hang"), timeoutDuration=20_000)
    path = hangs["triggerUrl"].removeprefix(pointsman.url)
    with (
        clients(pointsman, 8) as (idle, silent, slow, waits, half, second_half, drips, second_drips),
        ThreadPoolExecutor(4) as threads,
    ):
        for client in (idle, slow, waits, second_half, second_drips):
            assert client.answered()
        waits.send(f"POST {path} HTTP/1.1\r\nhost: x\r\nprefer: wait=17\r\n\r\n".encode())
        half.begin(REQUEST[:5])
        second_half.begin(REQUEST[:5])
        ends = [threads.submit(one.ended_after) for one in (half, second_half)]
        ends += [threads.submit(one.drips_for) for one in (drips, second_drips)]
        slow.drip(REQUEST, 0.1)
        assert slow.receive().startswith(b"HTTP/1.1 200"), "a few seconds are no fault"
        for end in ends:
            assert HEAD_SECONDS - 1 < end.result() < HEAD_SECONDS + LOOKS_SECONDS
        assert idle.answered(), "ten seconds of silence end no connection"
        assert silent.answered(), "nor one that was opened ahead of its first request"
        assert slow.answered()
        answer = waits.receive()
        assert answer.startswith(b"HTTP/1.1 202")
        assert b"preference-applied: wait=17" in answer


def test_an_idle_connection_ends_after_the_time_that_is_set(tmp_path: Path) -> None:
    with (
        Running(tmp_path, {"POINTSMAN_KEEP_ALIVE_SECONDS": "2"}) as pointsman,
        clients(pointsman, 1) as (client,),
    ):
        assert client.answered()
        assert client.answered()
        client.begin(b"")
        assert 1.5 < client.ended_after() < 5
