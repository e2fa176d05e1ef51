"""Sends many triggers over a bounded number of connections and notes every accepted id."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from tests.sent import Sent, unlike_any_other


@dataclass
class Load:
    """What came back.

    accepted: what was sent, by the id of every 202. refused: status (0: no answer) → how often.
    begun: how many calls were begun; each of them is counted in one of the two.
    """

    begun: int = 0
    accepted: dict[str, Sent] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def nobody_was_refused(self) -> bool:
        """Whether every call that was begun was answered 202."""
        return not self.refused and len(self.accepted) == self.begun > 0

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
    load.begun += 1
    path = urlsplit(url).path
    made = unlike_any_other(f"{path[-8:]}-{number}")
    try:
        async with session.post(url, data=made["content"], headers=made["headers"]) as answer:
            if answer.status == 202:
                sent = Sent(path, made["content"].encode(), made["headers"]["content-type"])
                load.accepted[(await answer.json())["triggerId"]] = sent
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
        assert not self._thread.is_alive(), "calls without an answer"
