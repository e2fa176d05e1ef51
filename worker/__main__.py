"""Runs one worker process: `python -m worker`."""

from __future__ import annotations

import sys
import warnings

from celery.exceptions import SecurityWarning

from shared import config, logs
from shared.errors import ConfigError
from shared.open_files import raise_limit
from worker.app import HINT_THREADS, make_worker_app


def main() -> None:
    """Read the settings and work until SIGTERM; exits 78 (EX_CONFIG) when they cannot be used."""
    try:
        settings = config.read()
        logs.configure(settings.log_level, settings.log_format)
        raise_limit()
        app = make_worker_app(settings)
    except ConfigError as error:
        sys.stderr.write(f"{error.message} {error.hint}\n")
        sys.exit(78)
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
