"""Runs one worker process: `python -m worker`."""

from __future__ import annotations

import sys

from shared import config, logs
from shared.errors import ConfigError
from worker.app import HINT_THREADS, make_worker_app


def main() -> None:
    """Read the settings and work until SIGTERM; exits 78 (EX_CONFIG) when they cannot be used."""
    try:
        settings = config.read()
        logs.configure(settings.log_level, settings.log_format)
        app = make_worker_app(settings)
    except ConfigError as error:
        sys.stderr.write(f"{error.message} {error.hint}\n")
        sys.exit(78)
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
