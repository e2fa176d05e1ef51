"""Sends hints to Redis, off everybody's path.

offer() never waits and never fails: ids join a bounded queue, and a thread with a connection of its
own publishes them, at most MAX_HINT_IDS to a message. When Redis is away or the queue is full the
hint is dropped and counted; the sweep finds the triggers in PostgreSQL.

A lane is bounded: to one that is MAX_LANE_MESSAGES long nothing is sent. Otherwise a weekend
without workers would fill Redis. Redis says how long a lane is in its answer to each LPUSH.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
from celery import Celery
from kombu import Producer

from shared import metrics
from shared.redis.queues import FRESH, HINT_TASK, MAX_HINT_IDS, PROBE_TASK, open_broker
from shared.threads import OwnedThread

MAX_QUEUED_IDS = 50_000

# Several processes that send at once may exceed it, by one message each.
MAX_LANE_MESSAGES = 500
SOCKET_SECONDS = 0.5

# Between two messages: each costs Celery 2 ms of CPU, so that under load ids gather.
LEAST_DISTANCE_SECONDS = 0.025

# After a failure nothing is tried for this long, so that a dead Redis costs nothing.
BREAKER_SECONDS = 1.0

log = structlog.get_logger("hints")


class HintSender:
    """One connection that publishes hints, each within SOCKET_SECONDS.

    Not shared between threads.
    """

    def __init__(self, app: Celery, redis_url: str) -> None:
        self._app = app
        self._redis_url = redis_url
        self._producer: Producer | None = None
        self._closed_until = 0.0
        self._healthy = True
        self._answered = 0
        # Messages in each lane when Redis last said.
        self._lengths: dict[str, int] = {}

    def send(self, lane: str, ids: Sequence[UUID]) -> bool:
        """Publish one hint.

        False when the lane is full, or Redis did not take it (or might not have).

        Nothing is raised.
        """
        return self._publish(lane, HINT_TASK, [str(trigger_id) for trigger_id in ids])

    def send_probe(self) -> bool:
        """Publish that a probe waits. The same otherwise."""
        return self._publish(FRESH, PROBE_TASK)

    def _publish(self, lane: str, task: str, *lists: list[str]) -> bool:
        if time.monotonic() < self._closed_until:
            return False
        try:
            if self._is_full(lane):
                return False
            self._app.send_task(
                task,
                args=lists,
                queue=lane,
                producer=self._open(),
                retry=False,
                ignore_result=True,
                # what Celery would write out at length, for nobody
                argsrepr=f"({sum(map(len, lists))} ids)",
                kwargsrepr="{}",
            )
        except Exception as error:  # noqa: BLE001 - fail open whatever kombu, redis-py or the socket raise
            self._trip(error)
            return False
        self._lengths[lane] = self._answered
        if not self._healthy:
            self._healthy = True
            log.info("redis_takes_hints_again")
        return True

    def length(self, lane: str) -> int | None:
        """How many messages a lane holds now.

        None when Redis does not say so within SOCKET_SECONDS. Nothing is raised.
        """
        if time.monotonic() < self._closed_until:
            return None
        try:
            return self._ask_length(lane)
        except Exception as error:  # noqa: BLE001 - as in send()
            self._trip(error)
            return None

    def _is_full(self, lane: str) -> bool:
        """Whether a lane has no room. Redis is only asked if it had none, or is new to us."""
        known = self._lengths.get(lane, MAX_LANE_MESSAGES)
        return known >= MAX_LANE_MESSAGES and self._ask_length(lane) >= MAX_LANE_MESSAGES

    def _ask_length(self, lane: str) -> int:
        self._lengths[lane] = int(self._open().channel._size(lane))
        return self._lengths[lane]

    def _note_length(self, answer: int, **_options: Any) -> int:
        self._answered = answer
        return answer

    def _open(self) -> Producer:
        if self._producer is None:
            connection = open_broker(self._redis_url, socket_seconds=SOCKET_SECONDS)
            # not channel(): that one connects again after a pause of 2 s
            channel = connection.default_channel
            _hear_pushes(channel, self._note_length)
            self._producer = Producer(channel, auto_declare=False)
        return self._producer

    def _trip(self, error: Exception) -> None:
        self.close()
        self._closed_until = time.monotonic() + BREAKER_SECONDS
        if self._healthy:
            self._healthy = False
            log.warning(
                "redis_takes_no_hints", error=type(error).__name__, effect="the sweep delivers, slower"
            )

    def close(self) -> None:
        producer, self._producer = self._producer, None
        self._lengths.clear()
        if producer is None:
            return
        try:
            producer.channel.connection.client.release()
        except Exception as error:  # noqa: BLE001 - closing a broken connection may fail in any way
            log.debug("close_failed", error=type(error).__name__)


def _hear_pushes(channel: Any, note: Callable[..., int]) -> None:
    """Have `note` called with Redis' answer to each LPUSH, which kombu keeps to itself.

    Kombu makes a client of redis-py for each message. A channel in memory has none.
    """
    make_client = getattr(channel, "Client", None)
    if make_client is None:
        return

    def make_hearing_client(*arguments: Any, **options: Any) -> Any:
        client = make_client(*arguments, **options)
        client.set_response_callback("LPUSH", note)
        return client

    channel.Client = make_hearing_client


class HintPublisher:
    """The thread that sends what callers offer."""

    def __init__(self, sender: HintSender) -> None:
        self._sender = sender
        self._wake = threading.Condition()
        self._queue: deque[tuple[str, UUID]] = deque()
        self._probe_waits = False
        self._stopping = False
        self.thread = OwnedThread("hints", self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.thread.stop(self._end, 2 * SOCKET_SECONDS + 1)

    def _end(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def offer(self, lane: str, ids: Sequence[UUID]) -> None:
        """Send these ids soon, if Redis takes them. Never waits."""
        with self._wake:
            room = MAX_QUEUED_IDS - len(self._queue)
            if room < len(ids):
                metrics.hints_dropped.inc(len(ids) - max(room, 0))
            self._queue.extend((lane, trigger_id) for trigger_id in ids[: max(room, 0)])
            self._wake.notify()

    def offer_probe(self) -> None:
        """Say soon that a probe waits, if Redis takes that. Never waits."""
        with self._wake:
            self._probe_waits = True
            self._wake.notify()

    def _run(self) -> None:
        self._sender.send(FRESH, [])  # names nothing; opens the connection before the first trigger needs it
        while True:
            with self._wake:
                while not (self._queue or self._probe_waits or self._stopping):
                    self._wake.wait()
                probe_waits, self._probe_waits = self._probe_waits, False
                if not (self._queue or probe_waits):
                    self._sender.close()
                    return
                lane, ids = self._take() if self._queue else (FRESH, [])
            if probe_waits:
                self._sender.send_probe()  # if it is lost, the workers look all the same
            if ids and not self._sender.send(lane, ids):
                metrics.hints_dropped.inc(len(ids))
            if len(ids) < MAX_HINT_IDS:
                time.sleep(LEAST_DISTANCE_SECONDS)

    def _take(self) -> tuple[str, list[UUID]]:
        lane = self._queue[0][0]
        ids: list[UUID] = []
        while self._queue and self._queue[0][0] == lane and len(ids) < MAX_HINT_IDS:
            ids.append(self._queue.popleft()[1])
        return lane, ids
