"""Counters of what this process did, in Prometheus' terms; `/metrics` shows the API's."""

from prometheus_client import Counter, Gauge, Histogram

triggers_accepted = Counter("pointsman_triggers_accepted_total", "Triggers committed and answered with 2xx")
triggers_refused = Counter("pointsman_triggers_refused_total", "Calls of trigger URLs refused", ["code"])
record_seconds = Histogram(
    "pointsman_record_seconds",
    "Time that the commit of one batch of triggers took",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 3),
)
hints_dropped = Counter("pointsman_hints_dropped_total", "Trigger ids whose hint Redis did not take")
runs_claimed = Counter("pointsman_runs_claimed_total", "Runs claimed by this worker")
runs_settled = Counter("pointsman_runs_settled_total", "Runs settled by this worker", ["success"])
claims_lost = Counter("pointsman_claims_lost_total", "Results dropped because the claim was no longer held")
runs_in_flight = Gauge("pointsman_runs_in_flight", "Runs that this worker has in memory")
sweep_repairs = Counter("pointsman_sweep_repairs_total", "What a maintenance duty repaired", ["duty"])
sweep_seconds = Histogram(
    "pointsman_sweep_seconds", "Time that one pass of a maintenance duty took", ["duty"]
)
