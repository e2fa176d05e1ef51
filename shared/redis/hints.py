"""Sends hints to Redis, off everybody's path.

offer() never waits and never fails: ids join a bounded queue, and a thread with a connection of its
own publishes them, at most MAX_HINT_IDS to a message. When Redis is away or the queue is full the
hint is dropped and counted; the sweep finds the triggers in PostgreSQL.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from uuid import UUID

import structlog
from celery import Celery
from kombu import Producer

from shared import metrics
from shared.redis.queues import FRESH, HINT_TASK, MAX_HINT_IDS, open_broker
from shared.threads import OwnedThread

MAX_QUEUED_IDS = 50_000
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

    def send(self, lane: str, ids: Sequence[UUID]) -> bool:
        """Publish one hint.

        False when Redis did not take it (or might not have); nothing is raised.
        """
        if time.monotonic() < self._closed_until:
            return False
        try:
            self._app.send_task(
                HINT_TASK,
                args=[[str(trigger_id) for trigger_id in ids]],
                queue=lane,
                producer=self._open(),
                retry=False,
                ignore_result=True,
                argsrepr=f"({len(ids)} ids)",  # what Celery would write out at length, for nobody
                kwargsrepr="{}",
            )
        except Exception as error:  # noqa: BLE001 - fail open whatever kombu, redis-py or the socket raise
            self._trip(error)
            return False
        if not self._healthy:
            self._healthy = True
            log.info("redis_takes_hints_again")
        return True

    def answers(self) -> bool:
        """Whether Redis answers a PING now, within SOCKET_SECONDS. Nothing is raised."""
        if time.monotonic() < self._closed_until:
            return False
        try:
            return bool(self._open().channel.client.ping())
        except Exception as error:  # noqa: BLE001 - as in send()
            self._trip(error)
            return False

    def _open(self) -> Producer:
        if self._producer is None:
            connection = open_broker(self._redis_url, socket_seconds=SOCKET_SECONDS)
            # not channel(): that one connects again after a pause of 2 s
            self._producer = Producer(connection.default_channel, auto_declare=False)
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
        if producer is None:
            return
        try:
            producer.channel.connection.client.release()
        except Exception as error:  # noqa: BLE001 - closing a broken connection may fail in any way
            log.debug("close_failed", error=type(error).__name__)


class HintPublisher:
    """The thread that sends what callers offer."""

    def __init__(self, sender: HintSender) -> None:
        self._sender = sender
        self._wake = threading.Condition()
        self._queue: deque[tuple[str, UUID]] = deque()
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

    def _run(self) -> None:
        self._sender.send(FRESH, [])  # names nothing; opens the connection before the first trigger needs it
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if not self._queue:
                    self._sender.close()
                    return
                lane, ids = self._take()
            if not self._sender.send(lane, ids):
                metrics.hints_dropped.inc(len(ids))
            if len(ids) < MAX_HINT_IDS:
                time.sleep(LEAST_DISTANCE_SECONDS)

    def _take(self) -> tuple[str, list[UUID]]:
        lane = self._queue[0][0]
        ids: list[UUID] = []
        while self._queue and self._queue[0][0] == lane and len(ids) < MAX_HINT_IDS:
            ids.append(self._queue.popleft()[1])
        return lane, ids
