"""Sends many triggers over a bounded number of connections and notes every accepted id."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Load:
    """What came back.

    accepted: the ids of every 202. refused: status (0: no answer) → how often.
    """

    accepted: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The answer time, in seconds, that this share of the answers did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def send(
    urls: str | Sequence[str],
    count: int,
    connections: int,
    load: Load,
    stop: threading.Event | None = None,
    per_second: float | None = None,
) -> Load:
    """Send `count` triggers, to these URLs in turn; until `stop` is set, if that comes first.

    per_second: at most so many; None: as many as the connections carry.
    """
    targets = [urls] if isinstance(urls, str) else list(urls)
    left = iter(range(count))
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def one_connection() -> None:
            for number in left:
                if stop is not None and stop.is_set():
                    return
                if per_second is not None:
                    await asyncio.sleep(began + number / per_second - time.monotonic())
                await _send_one(session, targets[number % len(targets)], number, load)

        await asyncio.gather(*(one_connection() for _ in range(connections)))
    return load


async def _send_one(session: aiohttp.ClientSession, url: str, number: int, load: Load) -> None:
    started = time.monotonic()
    try:
        async with session.post(url, json={"n": number}) as answer:
            if answer.status == 202:
                load.accepted.append((await answer.json())["triggerId"])
            else:
                load.refused[answer.status] += 1
                await asyncio.sleep(0.02)
    except (aiohttp.ClientError, TimeoutError):
        load.refused[0] += 1
        await asyncio.sleep(0.02)
    load.seconds.append(time.monotonic() - started)


class BackgroundLoad:
    """Sends triggers from a thread until the block ends."""

    def __init__(
        self, urls: str | Sequence[str], connections: int = 16, per_second: float | None = None
    ) -> None:
        self.load = Load()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(send(urls, 1_000_000, connections, self.load, self._stop, per_second)),
            daemon=True,
        )

    def __enter__(self) -> Load:
        self._thread.start()
        return self.load

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(30)
