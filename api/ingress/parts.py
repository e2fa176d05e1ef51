"""What the ingress owns in one process, made in api/services.py and passed on with the
application.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app
from sqlalchemy import Engine

from api.deadlines import Deadlines
from api.ingress.loops import Loops
from api.ingress.outcomes import Outcomes
from api.ingress.record import Recorder
from api.ingress.resolve import Resolver
from api.threads import Threads
from api.urls import Urls
from shared.config import Settings

EXTENSION = "pointsman.ingress"


@dataclass(frozen=True, slots=True)
class IngressParts:
    """The settings, the connections and the threads that calls of trigger URLs need.

    deadline: of the steps up to the commit, and of the public status. threads: for reading that
    status on `database`, for hashing large bodies, and for the notes of `loops`.
    """

    settings: Settings
    database: Engine
    urls: Urls
    deadline: Deadlines
    resolver: Resolver
    loops: Loops
    recorder: Recorder
    outcomes: Outcomes
    threads: Threads

    def start(self) -> None:
        self.recorder.start()
        self.outcomes.start()

    def stop(self) -> None:
        """Let waiting callers go and commit what is queued."""
        self.outcomes.stop()
        self.recorder.stop()

    def close(self) -> None:
        """End the threads. The database is its maker's."""
        self.resolver.stop()
        self.threads.stop()


def parts() -> IngressParts:
    """Those of the application that handles the current request."""
    return cast(IngressParts, current_app.extensions[EXTENSION])
