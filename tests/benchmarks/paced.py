"""Paced load: triggers at fixed times, whatever the answers do, and when each was delivered.

Each body bears the moment of its sending by the monotonic clock of this process, in which the receiver runs too.
"""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp

from tests.load import Load, send
from tests.peers.receiver import Receiver

GRACE_SECONDS = 30.0
MAX_CONNECTIONS = 256


def one_at_a_time(url: str, receiver: Receiver, count: int) -> list[float]:
    """Send the next trigger once the last was delivered; seconds from sending to delivery."""
    return asyncio.run(_one_at_a_time(url, receiver, count))


async def _one_at_a_time(url: str, receiver: Receiver, count: int) -> list[float]:
    async with aiohttp.ClientSession() as session:
        for number in range(count):
            await _send(session, url)
            await _until_delivered(receiver, number + 1)
            await asyncio.sleep(0.02)
    return _latencies(receiver)


def at_rate(url: str, receiver: Receiver, per_second: float, seconds: float) -> list[float]:
    """Send so many triggers a second; seconds from sending to delivery."""
    return asyncio.run(_at_rate(url, receiver, per_second, seconds))


async def _at_rate(url: str, receiver: Receiver, per_second: float, seconds: float) -> list[float]:
    count = int(per_second * seconds)
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        started = time.monotonic()
        sends = []
        for number in range(count):
            delay = started + number / per_second - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            sends.append(asyncio.create_task(_send(session, url)))
        await asyncio.gather(*sends)
        await _until_delivered(receiver, count)
    return _latencies(receiver)


def answers_at_rate(url: str, per_second: float, seconds: float) -> Load:
    """Post at a steady rate, without waiting for deliveries; the Load has how long each answer took."""
    return asyncio.run(send(url, int(per_second * seconds), MAX_CONNECTIONS, Load(), per_second=per_second))


async def _send(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(url, data=json.dumps({"sent": time.monotonic()})) as answer:
        if answer.status != 202:
            raise RuntimeError(f"{url} answered {answer.status}: {await answer.text()}")


async def _until_delivered(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(GRACE_SECONDS):
        while len(receiver.receipts) < count:
            await asyncio.sleep(0.001)


def _latencies(receiver: Receiver) -> list[float]:
    latencies = [receipt.at - json.loads(receipt.body)["sent"] for receipt in receiver.receipts]
    receiver.receipts.clear()
    return latencies
