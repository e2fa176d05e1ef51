"""Clients that send byte by byte cost the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.load import Load, send
from tests.peers.receiver import Receiver
from tests.running import Running

SLOW_CLIENTS = 200
BYTE_SECONDS = 0.2
CALLS = 400

# 99 of 100, on a busy machine. Behind a thread that reads a slow body nobody is answered at all.
WORST_ANSWER_SECONDS = 1.0


@pytest.mark.load
def test_200_slow_bodies_do_not_slow_another_caller(pointsman: Running, receiver: Receiver) -> None:
    """Guards: bodies are read asynchronously by the shell.

    Fails when a thread reads them: then nobody is served.
    """
    callback = pointsman.callback(receiver.url("/ok"))
    pointsman.primary(callback, enabled=False)
    among_slow = asyncio.run(_among_slow_clients(callback["triggerUrl"]))
    assert among_slow.nobody_was_refused, (among_slow.refused, among_slow.begun)
    assert len(among_slow.accepted) == CALLS
    assert among_slow.percentile(0.99) < WORST_ANSWER_SECONDS


async def _among_slow_clients(url: str) -> Load:
    slow = [asyncio.create_task(_send_slowly(url)) for _ in range(SLOW_CLIENTS)]
    try:
        await asyncio.sleep(BYTE_SECONDS)  # every one of them has its connection and has sent its head
        return await send(url, CALLS, 1, Load())
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def _send_slowly(url: str) -> None:
    """Send a body byte by byte, again and again, whatever the server answers."""
    target = urlsplit(url)
    head = f"POST {target.path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".encode()
    while True:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            writer.write(head)
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(BYTE_SECONDS)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


IDLE_CONNECTIONS = 1_500


@pytest.mark.load
def test_more_than_a_thousand_idle_connections_do_not_stop_another_caller(pointsman: Running) -> None:
    """Guards: Granian's bound on connections.

    Its own default, the backlog of 1,024, froze the whole process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * IDLE_CONNECTIONS)), hard))
    target = urlsplit(pointsman.url)
    idle = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            idle.append(socket.create_connection((target.hostname, target.port), timeout=5))
            idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle[-1].recv(4096).startswith(b"HTTP/1.1 200")
        assert httpx.get(f"{pointsman.url}/healthz", timeout=3, trust_env=False).status_code == 200
    finally:
        for connection in idle:
            connection.close()
