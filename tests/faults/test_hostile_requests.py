"""Many requests of a kind that once cost memory, and what they cost the process and others."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.faults.oracle import everything_ended
from tests.faults.sizes import progress, size
from tests.faults.tenants import other_tenant
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

REQUESTS = size(1_500, 10_000)
AT_ONCE = 20

# What a process may grow by.
MAX_GROWTH_MIB = 64

# Calls a second of another tenant's trigger URL meanwhile.
RATE = 50.0

# Beside a machine that is busy with the requests themselves and with other tests.
WORST_ANSWER_SECONDS = 0.05 + 0.2

Send = Callable[[int], Awaitable[None]]


@pytest.fixture
def pointsman(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running


class Memory:
    """The largest that the API and the worker have been while a block ran, in MiB beyond before."""

    def __init__(self, running: Running) -> None:
        self._pids = {name: running.pid_of(name) for name in ("api", "worker")}
        self._before = {name: _resident_mib(pid) for name, pid in self._pids.items()}
        self.growth = dict.fromkeys(self._pids, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def left(self) -> dict[str, float]:
        """What it has kept, beyond before."""
        return {name: _resident_mib(pid) - self._before[name] for name, pid in self._pids.items()}

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for name, pid in self._pids.items():
                self.growth[name] = max(self.growth[name], _resident_mib(pid) - self._before[name])


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def send_all(one: Send, count: int) -> None:
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            await one(number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def exchange(url: str, head: str, body: bytes = b"", *, wait_seconds: float = 20) -> bytes:
    """Send a request over a connection of its own; the first line of its answer, none in time."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    try:
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        await writer.drain()
        async with asyncio.timeout(wait_seconds):
            return await reader.readline()
    except TimeoutError:
        return b""
    finally:
        writer.transport.abort()


def names(running: Running, _receiver: Receiver) -> Send:
    """Trigger URLs that cannot be, each another one: 50 kB of letters and a character beyond."""

    async def one(number: int) -> None:
        path = f"/t/{number}" + "a" * 50_000 + quote("\N{PILE OF POO}")
        answer = await exchange(running.url, f"GET {path} HTTP/1.1\r\nhost: x\r\n")
        assert b" 404 " in answer, answer

    return one


def waits(running: Running, receiver: Receiver) -> Send:
    """Large bodies of callers who would wait for the end, and hang up."""
    callback = running.callback(receiver.url("/status/400"), timeoutDuration=300_000)
    path, body = urlsplit(callback["triggerUrl"]).path, b"x" * 200_000

    async def one(number: int) -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nprefer: wait=300\r\ncontent-length: {len(body)}\r\n"
        await exchange(running.url, head, body, wait_seconds=0.01)

    return one


def answers(path: str) -> Callable[[Running, Receiver], Send]:
    def kind(running: Running, receiver: Receiver) -> Send:
        actions = [
            {
                "type": "HTTP_POST",
                "order": n,
                "parallel": True,
                "config": {"url": receiver.url(path)},
                "retry": {"maxAttempts": 1},
            }
            for n in range(1, 4)
        ]
        callback = running.callback(receiver.url(path), actions)
        running.primary(callback, parallel=True, retry={"maxAttempts": 1})
        target = urlsplit(callback["triggerUrl"]).path

        async def one(number: int) -> None:
            head = f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
            answer = await exchange(running.url, head, b"x")
            assert b" 202 " in answer, answer

        return one

    return kind


@pytest.mark.load
@pytest.mark.timeout(size(240, 1_200))
@pytest.mark.parametrize(
    "kind",
    [names, waits, answers("/big"), answers("/heads")],
    ids=["names that cannot be", "waits that hang up", "large answers", "large heads"],
)
def test_they_cost_neither_memory_nor_others(
    pointsman: Running, receiver: Receiver, kind: Callable[[Running, Receiver], Send]
) -> None:
    """Guards: caches, bodies, waits and responses are bounded in bytes. Seen before: 94 MiB of an
    API for good after 400 requests.
    """
    one = kind(pointsman, receiver)
    with other_tenant(pointsman) as other:
        quick = pointsman.callback(receiver.url("/ok?of=other"), api=other)
    asyncio.run(send_all(one, REQUESTS // 5))  # what is loaded and cached by then is no growth
    with Memory(pointsman) as memory, BackgroundLoad(quick["triggerUrl"], 4, RATE) as others:
        asyncio.run(send_all(one, REQUESTS))
    everything_ended(pointsman, 120)
    progress(f"growth in MiB {memory.growth}, p99 of others {others.percentile(0.99):.3f} s")
    assert others.nobody_was_refused, others.refused
    assert memory.growth["api"] <= MAX_GROWTH_MIB, memory.growth
    eventually(lambda: max(memory.left().values()) <= MAX_GROWTH_MIB, 10, f"as before: {memory.left()}")
    assert memory.growth["worker"] <= MAX_GROWTH_MIB, memory.growth
    assert others.percentile(0.99) <= WORST_ANSWER_SECONDS
