"""Whether this process is alive, whether it can do its work, and its counters."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.services import services

health = Blueprint("health", __name__)

STALE_HEARTBEAT_SECONDS = 60

_READY = text("""
SELECT (SELECT count(*) FROM workers WHERE heartbeat_at > now() - make_interval(secs => :stale)),
  (SELECT extract(epoch FROM now() - min(hint_at)) FROM runs WHERE status = 'PENDING')
""")


@health.get("/healthz")
def alive() -> dict[str, Any]:
    """GET /healthz: this process answers."""
    return {"status": "alive"}


@health.get("/readyz")
def ready() -> Response:
    """GET /readyz: PostgreSQL answers and a worker's heart beats. 503 with the reasons otherwise."""
    checks: dict[str, Any] = {"postgres": True, "workers": 0, "oldestOverdueSeconds": None}
    try:
        with services().engine.connect() as connection:
            row = connection.execute(_READY, {"stale": STALE_HEARTBEAT_SECONDS}).one()
        checks["workers"] = row[0]
        checks["oldestOverdueSeconds"] = None if row[1] is None else max(float(row[1]), 0.0)
    except SQLAlchemyError:
        checks["postgres"] = False
    is_ready = checks["postgres"] and checks["workers"] > 0
    response = jsonify({"status": "ready" if is_ready else "not ready", "checks": checks})
    response.status_code = 200 if is_ready else 503
    return response


@health.get("/metrics")
def metrics() -> Response:
    """GET /metrics: this process's counters in Prometheus' text format."""
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
