"""Tells waiting API processes which runs have settled, through Redis.

Key: `pointsman:check` (string, TTL 60 s), written to see whether Redis takes writes. Channel:
`pointsman:settled`. A message is any number of trigger ids of 16 bytes, one behind another. It may
be lost, and is, whenever Redis is away: who waits looks at the rows each second anyway. Neither
side ever waits for Redis on anybody's path, and nothing here raises.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from uuid import UUID

import redis
import structlog

from shared.redis import urls
from shared.redis.queues import KEY_PREFIX
from shared.threads import OwnedThread

CHANNEL = KEY_PREFIX + "settled"
CHECK = KEY_PREFIX + "check"
CHECK_SECONDS = 60
SOCKET_SECONDS = 0.5

# After a failure.
PAUSE_SECONDS = 1.0

# How long a stop may have to wait.
LISTEN_SECONDS = 1.0
MAX_QUEUED = 10_000
MAX_MESSAGE_IDS = 500
STOP_SECONDS = 2.0

# A PING on a connection that was idle for this long; one that has gone is found by its failure.
HEALTH_SECONDS = 15
_ID_BYTES = 16

log = structlog.get_logger("settlements")


class Announcer:
    """The thread of a worker that tells which awaited runs have settled."""

    def __init__(self, redis_url: str) -> None:
        self._redis = _client(redis_url)
        self._queue: queue.Queue[UUID | None] = queue.Queue(MAX_QUEUED)
        self.thread = OwnedThread("announce", self._run)
        self._stop = threading.Event()

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Tell what is queued, if Redis takes it at once, then end."""
        self.thread.stop(self._end, STOP_SECONDS)

    def _end(self) -> None:
        self._stop.set()
        self._offer(None)

    def tell(self, trigger_id: UUID) -> None:
        """Tell that this run has settled. Never waits."""
        self._offer(trigger_id)

    def _offer(self, item: UUID | None) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            log.debug("announcement_dropped")

    def _run(self) -> None:
        ended = False
        while not ended:
            ids = [self._queue.get()]
            while len(ids) < MAX_MESSAGE_IDS and not self._queue.empty():
                ids.append(self._queue.get())
            ended = None in ids
            self._publish([one for one in ids if one is not None])
        self._redis.close()

    def _publish(self, ids: list[UUID]) -> None:
        if not ids:
            return
        try:
            self._redis.publish(CHANNEL, b"".join(one.bytes for one in ids))
        except Exception as error:  # noqa: BLE001 - whatever redis-py raises: who waits looks at the rows anyway
            log.debug("announcements_lost", ids=len(ids), error=type(error).__name__)
            self._stop.wait(PAUSE_SECONDS)


class Listener:
    """The thread of an API process that hears which runs have settled."""

    def __init__(self, redis_url: str, heard: Callable[[Iterable[UUID]], None]) -> None:
        self._redis = _client(redis_url)
        self._heard = heard
        self._stop = threading.Event()
        self.thread = OwnedThread("settlements", self._run)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.thread.stop(self._stop.set, STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - as in Announcer; also ValueError, of a socket that was closed
                log.debug("settlements_not_heard", error=type(error).__name__)
                self._stop.wait(PAUSE_SECONDS)
        self._redis.close()

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call,unused-ignore]
            channel.subscribe(CHANNEL)
            while not self._stop.is_set():
                message = channel.get_message(timeout=LISTEN_SECONDS)
                if message is not None:
                    self._heard(_ids(message["data"]))


def _ids(data: bytes) -> list[UUID]:
    whole = len(data) - len(data) % _ID_BYTES
    return [UUID(bytes=data[start : start + _ID_BYTES]) for start in range(0, whole, _ID_BYTES)]


def redis_takes_writes(redis_url: str) -> bool:
    """Whether Redis takes a write now, within SOCKET_SECONDS: full or unable to save, it still
    answers a PING.

    Nothing is raised.
    """
    client = _client(redis_url)
    try:
        return bool(client.set(CHECK, b"1", ex=CHECK_SECONDS))
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _client(redis_url: str) -> redis.Redis:
    return urls.read(redis_url).client(
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        health_check_interval=HEALTH_SECONDS,
    )
