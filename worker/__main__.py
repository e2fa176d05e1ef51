"""Runs one worker process: `python -m worker`."""

from __future__ import annotations

import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

from shared import metrics
from shared.config import Settings
from shared.process import begin
from worker.app import HINT_THREADS, make_worker_app


def _make(settings: Settings) -> Celery:
    if settings.metrics_port:
        metrics.show(settings.host, settings.metrics_port)
    return make_worker_app(settings)


def main() -> None:
    """Work until SIGTERM."""
    settings, app = begin(_make)
    # Celery warns root of pickled messages; ours are JSON lists of ids, the only ones accepted
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={HINT_THREADS}",
            f"--queues={','.join(settings.lanes)}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            f"--loglevel={settings.log_level}",
        ]
    )


if __name__ == "__main__":
    main()
