"""Counters of what this process did, in Prometheus' terms.

The API shows its own at `/metrics`; a worker, which has no other HTTP server, at
POINTSMAN_METRICS_PORT.
"""

from __future__ import annotations

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

log = structlog.get_logger("metrics")

triggers_accepted = Counter("pointsman_triggers_accepted_total", "Triggers committed and answered with 2xx")
triggers_refused = Counter("pointsman_triggers_refused_total", "Calls of trigger URLs refused", ["code"])
heads_cut = Counter("pointsman_heads_cut_total", "Connections ended because a request's head took too long")
readers_cut = Counter(
    "pointsman_readers_cut_total", "Connections ended because their client took nothing of an answer"
)
record_seconds = Histogram(
    "pointsman_record_seconds",
    "Time that the commit of one batch of triggers took",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 3),
)
hints_dropped = Counter("pointsman_hints_dropped_total", "Trigger ids whose hint Redis did not take")
runs_claimed = Counter("pointsman_runs_claimed_total", "Runs claimed by this worker")
runs_settled = Counter("pointsman_runs_settled_total", "Runs settled by this worker", ["success"])
claims_lost = Counter("pointsman_claims_lost_total", "Results dropped because the claim was no longer held")
suspects_died = Counter("pointsman_suspects_died_total", "Processes of suspects that died")
runs_in_flight = Gauge("pointsman_runs_in_flight", "Runs that this worker has in memory")
sweep_repairs = Counter("pointsman_sweep_repairs_total", "What a maintenance duty repaired", ["duty"])
sweep_seconds = Histogram(
    "pointsman_sweep_seconds", "Time that one pass of a maintenance duty took", ["duty"]
)


def show(host: str, port: int) -> None:
    """Show this process's metrics at http://host:port/metrics, from a thread of its own.

    A port that is taken costs the metrics, not the process.
    """
    try:
        start_http_server(port, host)
    except OSError as error:
        log.warning("metrics_not_shown", port=port, reason=error.strerror, hint="see POINTSMAN_METRICS_PORT")
