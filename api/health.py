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
PROBE_SECONDS = 1.0

_READY = text("""
SELECT w.workers, w.in_flight,
  (SELECT extract(epoch FROM now() - min(hint_at)) FROM runs WHERE status = 'PENDING'),
  EXISTS (SELECT 1 FROM runs WHERE hint_at > now() AND hint_count > 0),
  (SELECT version_num FROM alembic_version)
FROM (SELECT count(*) AS workers, coalesce(sum(in_flight), 0) AS in_flight
  FROM workers WHERE heartbeat_at > now() - make_interval(secs => :stale)) w
""")


class RedisProbe:
    """Whether Redis answers, asked at most once a second, whoever wants to know: a frozen Redis
    takes its time.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._asking = threading.Lock()
        self._answers = False
        self._asked_at = float("-inf")

    def answers(self) -> bool:
        if time.monotonic() - self._asked_at >= PROBE_SECONDS and self._asking.acquire(blocking=False):
            try:
                self._answers = redis_takes_writes(self._redis_url)
                self._asked_at = time.monotonic()
            finally:
                self._asking.release()
        return self._answers


def make_health(database: Engine, redis_url: str, dead_thread: Callable[[], str | None]) -> Blueprint:
    """The routes of one process.

    dead_thread: a loop of it that has died, for which it is about to end.
    """
    health = Blueprint("health", __name__)
    probe = RedisProbe(redis_url)

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
        is_ready, checks = _progress(database)
        checks["redis"] = probe.answers()
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
    except SQLAlchemyError:
        return False, checks | {"postgres": False}
    workers, in_flight, overdue_seconds, is_hinted, revision = row
    checks["workers"] = workers
    checks["oldestOverdueSeconds"] = None if overdue_seconds is None else max(float(overdue_seconds), 0.0)
    checks["migrated"] = revision >= SCHEMA_REVISION
    is_waiting_for_long = (checks["oldestOverdueSeconds"] or 0.0) >= STUCK_SECONDS
    is_moving = workers > 0 and (not is_waiting_for_long or in_flight > 0 or is_hinted)
    return checks["migrated"] and is_moving, checks
