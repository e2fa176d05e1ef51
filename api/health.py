"""Whether this process is alive, whether it can do its work, and its counters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.models.base import SCHEMA_REVISION
from shared.redis.settlements import redis_takes_writes

STALE_HEARTBEAT_SECONDS = 60

# Overdue by this much while nothing moves: workers beat and do nothing.
STUCK_SECONDS = 120
CHECK_SECONDS = 1.0

# How often PostgreSQL is asked, whoever wants to know.
ASK_SECONDS = 1.0

# Among so many runs that are looked at next, some were hinted if workers hint at all.
LOOK_AHEAD = 10_000

# A process of suspects listens to no lane. By the index of `hint_at`: the oldest PENDING run comes
# behind what is RUNNING, which is bounded.
_READY = text("""
SELECT w.workers, w.in_flight,
  (SELECT extract(epoch FROM now() - hint_at) FROM runs WHERE status = 'PENDING' ORDER BY hint_at LIMIT 1),
  (SELECT version_num FROM alembic_version)
FROM (SELECT count(*) FILTER (WHERE cardinality(lanes) > 0) AS workers, coalesce(sum(in_flight), 0) AS in_flight
  FROM workers WHERE heartbeat_at > now() - make_interval(secs => :stale)) w
""")
_IS_HINTED = text("""
SELECT EXISTS (SELECT 1 FROM (
  SELECT hint_count FROM runs WHERE hint_at > now() ORDER BY hint_at LIMIT :ahead) soon WHERE hint_count > 0)
""")


class RedisCheck:
    """Whether Redis answers, asked at most once a second, whoever wants to know: a frozen Redis
    takes its time.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._asking = threading.Lock()
        self._answers = False
        self._asked_at = float("-inf")

    def answers(self) -> bool:
        if time.monotonic() - self._asked_at >= CHECK_SECONDS and self._asking.acquire(blocking=False):
            try:
                self._answers = redis_takes_writes(self._redis_url)
                self._asked_at = time.monotonic()
            finally:
                self._asking.release()
        return self._answers


class WorkCheck:
    """Whether the work gets on, asked at most once in ASK_SECONDS, whoever wants to know.

    Who asks while PostgreSQL is being asked waits for that answer.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._asking = threading.Lock()
        self._answer: tuple[bool, dict[str, Any]] | None = None
        self._asked_at = float("-inf")

    def now(self) -> tuple[bool, dict[str, Any]]:
        """Whether it does, and what that is judged by."""
        with self._asking:
            if self._answer is None or time.monotonic() - self._asked_at >= ASK_SECONDS:
                self._answer = _progress(self._database)
                self._asked_at = time.monotonic()
            is_moving, checks = self._answer
            return is_moving, dict(checks)


def make_health(database: Engine, redis_url: str, dead_thread: Callable[[], str | None]) -> Blueprint:
    """The routes of one process.

    dead_thread: a loop of it that has died, for which it is about to end.
    """
    health = Blueprint("health", __name__)
    redis = RedisCheck(redis_url)
    work = WorkCheck(database)

    @health.get("/healthz")
    def alive() -> dict[str, Any]:
        """GET /healthz: this process answers."""
        return {"status": "alive"}

    @health.get("/readyz")
    def ready() -> Response:
        """GET /readyz: PostgreSQL answers, is migrated, a worker makes progress, and no loop of
        this process has died.

        503 with the reasons otherwise.
        """
        is_ready, checks = work.now()
        checks["redis"] = redis.answers()
        checks["deadThread"] = dead_thread()
        is_ready = is_ready and checks["deadThread"] is None
        response = jsonify({"status": "ready" if is_ready else "not ready", "checks": checks})
        response.status_code = 200 if is_ready else 503
        return response

    @health.get("/metrics")
    def metrics() -> Response:
        """GET /metrics: this process's counters in Prometheus' text format."""
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    return health


def _progress(database: Engine) -> tuple[bool, dict[str, Any]]:
    """Whether the work gets on, and what that is judged by.

    A backlog, however long, is progress as long as workers take from it or hint it. A database that
    is ahead of this code is ready: that is how an upgrade passes. Without Redis everything goes on,
    slower: that changes nothing here.
    """
    checks: dict[str, Any] = {"postgres": True, "migrated": False, "workers": 0, "oldestOverdueSeconds": None}
    try:
        with database.connect() as connection:
            row = connection.execute(_READY, {"stale": STALE_HEARTBEAT_SECONDS}).one()
            workers, in_flight, overdue_seconds, revision = row
            is_waiting_for_long = (overdue_seconds or 0.0) >= STUCK_SECONDS
            is_moving = workers > 0 and (
                not is_waiting_for_long
                or in_flight > 0
                or bool(connection.execute(_IS_HINTED, {"ahead": LOOK_AHEAD}).scalar())
            )
    except SQLAlchemyError:
        return False, checks | {"postgres": False}
    checks["workers"] = workers
    checks["oldestOverdueSeconds"] = None if overdue_seconds is None else max(float(overdue_seconds), 0.0)
    checks["migrated"] = revision >= SCHEMA_REVISION
    return checks["migrated"] and is_moving, checks
