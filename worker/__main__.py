"""Runs one worker process: `python -m worker`."""

from __future__ import annotations

import warnings

from celery.exceptions import SecurityWarning

from shared.process import begin
from worker.app import HINT_THREADS, make_worker_app


def main() -> None:
    """Work until SIGTERM."""
    settings, app = begin(make_worker_app)
    # Celery warns root of pickled messages; ours are JSON lists of ids, and nothing else is accepted
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
