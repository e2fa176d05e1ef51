"""Paced load: triggers at fixed times, whatever the answers do, and when each was delivered.

Each body bears the moment at which it was to be sent: a sender that falls behind makes latencies
longer, not fewer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import uvloop

from tests.benchmarks.sink import Sink
from tests.benchmarks.wire import Posts

GRACE_SECONDS = 60.0
LEAST_SLEEP_SECONDS = 0.0005

# Between triggers that are sent one at a time.
PAUSE_SECONDS = 0.02

T = TypeVar("T")


@dataclass
class Answers:
    """What callers were told.

    seconds: how long each 202 took; refused: any other status, 0 for none → how often.
    """

    seconds: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)


def one_at_a_time(url: str, sink: Sink, count: int) -> list[float]:
    """Send the next trigger once the last was delivered; seconds from sending to delivery."""

    async def run() -> list[float]:
        posts = Posts(url)
        sink.forget()
        for number in range(count):
            await posts.post(b'{"sent": %.6f}' % monotonic())
            await _until_delivered(sink, number + 1)
            await asyncio.sleep(PAUSE_SECONDS)
        posts.close()
        return sink.latencies

    return _run(run())


def at_rate(url: str, sink: Sink, per_second: float, seconds: float) -> list[float]:
    """Send so many triggers a second; seconds from when each was due to be sent until it was
    delivered.
    """

    async def run() -> list[float]:
        sink.forget()
        answers = await _send(url, per_second, seconds)
        if answers.refused:
            raise RuntimeError(f"{url} refused {dict(answers.refused)}")
        await _until_delivered(sink, len(answers.seconds))
        return sink.latencies

    return _run(run())


def answers_at_rate(url: str, per_second: float, seconds: float) -> Answers:
    """Send so many triggers a second, without waiting for deliveries."""
    return _run(_send(url, per_second, seconds))


async def _send(url: str, per_second: float, seconds: float) -> Answers:
    posts, answers = Posts(url), Answers()
    began = monotonic()
    sent = []
    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        if (ahead := due - monotonic()) > LEAST_SLEEP_SECONDS:
            await asyncio.sleep(ahead)
        answer = posts.post(b'{"sent": %.6f}' % due)
        answer.add_done_callback(_note(answers, due))
        sent.append(answer)
        if number % 16 == 0:
            await asyncio.sleep(0)  # a sender that is behind must still hear the answers
    _, unanswered = await asyncio.wait(sent, timeout=GRACE_SECONDS)
    for answer in unanswered:
        answer.cancel()
    await asyncio.sleep(0)  # for them to be noted
    posts.close()
    return answers


def _note(answers: Answers, due: float) -> Callable[[asyncio.Future[int]], None]:
    def note(answer: asyncio.Future[int]) -> None:
        status = 0 if answer.cancelled() or answer.exception() else answer.result()
        if status == 202:
            answers.seconds.append(monotonic() - due)
        else:
            answers.refused[status] += 1

    return note


async def _until_delivered(sink: Sink, count: int) -> None:
    async with asyncio.timeout(GRACE_SECONDS):
        while len(sink.latencies) < count:
            await asyncio.sleep(0.001)


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
