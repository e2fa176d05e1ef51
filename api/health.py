"""Whether this process is alive, whether it can do its work, and its counters."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.services import services
from shared.models.base import SCHEMA_REVISION
from shared.settlements import redis_answers

health = Blueprint("health", __name__)

STALE_HEARTBEAT_SECONDS = 60
STUCK_SECONDS = 120  # overdue by this much, nobody sweeps: workers beat and do nothing

_READY = text("""
SELECT (SELECT count(*) FROM workers WHERE heartbeat_at > now() - make_interval(secs => :stale)),
  (SELECT extract(epoch FROM now() - min(hint_at)) FROM runs WHERE status = 'PENDING'),
  (SELECT version_num FROM alembic_version)
""")


@health.get("/healthz")
def alive() -> dict[str, Any]:
    """GET /healthz: this process answers."""
    return {"status": "alive"}


@health.get("/readyz")
def ready() -> Response:
    """GET /readyz: PostgreSQL answers, is migrated, and a worker makes progress. 503 with the reasons otherwise.

    Without Redis everything goes on, slower: `redis` says so and changes nothing else.
    """
    checks: dict[str, Any] = {"postgres": True, "migrated": False, "workers": 0, "oldestOverdueSeconds": None}
    try:
        with services().engine.connect() as connection:
            row = connection.execute(_READY, {"stale": STALE_HEARTBEAT_SECONDS}).one()
        checks["workers"] = row[0]
        checks["oldestOverdueSeconds"] = None if row[1] is None else max(float(row[1]), 0.0)
        checks["migrated"] = row[2] == SCHEMA_REVISION
    except SQLAlchemyError:
        checks["postgres"] = False
    checks["redis"] = redis_answers(services().settings.redis)
    is_moving = checks["workers"] > 0 and (checks["oldestOverdueSeconds"] or 0.0) < STUCK_SECONDS
    is_ready = checks["postgres"] and checks["migrated"] and is_moving
    response = jsonify({"status": "ready" if is_ready else "not ready", "checks": checks})
    response.status_code = 200 if is_ready else 503
    return response


@health.get("/metrics")
def metrics() -> Response:
    """GET /metrics: this process's counters in Prometheus' text format."""
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
