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
from api.ingress.record import LARGE_BYTES, NewTrigger, Recorder
from api.ingress.resolve import Resolver
from api.threads import Threads
from api.urls import Urls
from shared.config import Settings
from shared.crypto import SecretBox

EXTENSION = "pointsman.ingress"


@dataclass(frozen=True, slots=True)
class IngressParts:
    """The settings, the connections and the threads that calls of trigger URLs need.

    deadline: of the steps up to the commit, and of the public status. threads: for reading that
    status on `database`, for hashing large bodies, and for the notes of `loops`.
    """

    settings: Settings
    secrets: SecretBox
    database: Engine
    urls: Urls
    deadline: Deadlines
    resolver: Resolver
    loops: Loops
    recorder: Recorder
    large_recorder: Recorder
    outcomes: Outcomes
    threads: Threads

    def start(self) -> None:
        self.recorder.start()
        self.large_recorder.start()
        self.outcomes.start()

    def stop(self) -> None:
        """Let waiting callers go and commit what is queued."""
        self.outcomes.stop()
        self.recorder.stop()
        self.large_recorder.stop()

    def recorder_of(self, trigger: NewTrigger) -> Recorder:
        """Large ones are stored apart, so that none waits behind megabytes of others'."""
        return self.recorder if trigger.size < LARGE_BYTES else self.large_recorder

    def close(self) -> None:
        """End the threads. The database is its maker's."""
        self.resolver.stop()
        self.threads.stop()


def parts() -> IngressParts:
    """Those of the application that handles the current request."""
    return cast(IngressParts, current_app.extensions[EXTENSION])
