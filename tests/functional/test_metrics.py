"""What operators can watch: the counters of the API and of each worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx

from deploy.local.ports import free_port
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

DUTIES = ("due", "dead_workers", "purge", "replays", "expired", "partitions")


def test_api_and_worker_show_what_they_did(tmp_path: Path, receiver: Receiver) -> None:
    """Fails when a worker counts what nobody can read."""
    port = free_port()
    with Running(tmp_path, {"POINTSMAN_METRICS_PORT": str(port)}) as running:
        running.ended(running.fire(running.callback(receiver.url("/ok"))))

        def shows(base: str, line: str) -> bool:
            return line in httpx.get(f"{base}/metrics", trust_env=False).text

        assert shows(running.url, "pointsman_triggers_accepted_total 1.0")
        worker = f"http://127.0.0.1:{port}"
        assert shows(worker, 'pointsman_runs_settled_total{success="true"} 1.0')
        for duty in DUTIES:
            line = f'pointsman_sweep_seconds_count{{duty="{duty}"}}'
            eventually(partial(shows, worker, line), 10, f"a pass of {duty}")


def test_readiness_tells_a_backlog_from_a_standstill(tmp_path: Path, receiver: Receiver) -> None:
    """Fails when a long backlog alone takes every API out of its load balancer, or when a
    standstill does not.
    """
    with Running(tmp_path) as running:
        callback = running.callback(receiver.url("/hang"), timeoutDuration=20_000)

        def readiness() -> int:
            return httpx.get(f"{running.url}/readyz", trust_env=False).status_code

        running.signal("worker", "SIGSTOP")
        running.fire(callback)
        running.query("UPDATE runs SET hint_at = now() - interval '10 minutes' RETURNING 1")
        # it is asked once a second
        eventually(lambda: readiness() == 503, 3, "503: overdue for long, and nothing moves")
        running.signal("worker", "SIGCONT")
        eventually(lambda: running.query("SELECT in_flight FROM workers") == [(1,)], 15, "a run in flight")
        running.signal("worker", "SIGSTOP")
        running.fire(callback)
        running.query(
            "UPDATE runs SET hint_at = now() - interval '10 minutes' WHERE status = 'PENDING' RETURNING 1"
        )
        eventually(lambda: readiness() == 200, 3, "200: overdue for long, but a worker is at work")
        running.signal("worker", "SIGCONT")
