"""What the API owns in one process, made in one place and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import psycopg2
import structlog
from flask import current_app
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from api.ingress.outcomes import Outcomes
from api.ingress.record import Recorder
from api.ingress.resolve import Resolver
from shared.clock import database_clock
from shared.config import Settings
from shared.crypto import SecretBox
from shared.db import make_engine
from shared.hints import HintPublisher, HintSender
from shared.queues import make_celery
from shared.settlements import Listener

EXTENSION = "pointsman"
POOL_SIZE = 8
READ_SECONDS = 5.0

log = structlog.get_logger("services")


@dataclass(frozen=True, slots=True)
class Services:
    """The settings, the connections and the threads of one API process."""

    settings: Settings
    engine: Engine
    secrets: SecretBox
    resolver: Resolver
    publisher: HintPublisher
    recorder: Recorder
    outcomes: Outcomes
    listener: Listener

    def start(self) -> None:
        self._measure_clock()
        self.publisher.start()
        self.recorder.start()
        self.outcomes.start()
        self.listener.start()

    def _measure_clock(self) -> None:
        """Learn PostgreSQL's time before the first key is made. Without PostgreSQL nothing is recorded anyway."""
        try:
            with self.engine.connect() as connection:
                database_clock.measure(connection.connection.cursor())
        except (SQLAlchemyError, psycopg2.Error) as error:
            log.warning("clock_not_measured", error=type(error).__name__)

    def stop(self) -> None:
        """Let waiting callers go, commit what is queued, send its hints, close."""
        self.outcomes.stop()
        self.listener.stop()
        self.recorder.stop()
        self.publisher.stop()
        self.engine.dispose()


def make_services(settings: Settings) -> Services:
    """Make everything, start nothing."""
    engine = make_engine(settings.postgres, "api", pool_size=POOL_SIZE, call_seconds=READ_SECONDS)
    outcomes = Outcomes(settings.postgres, settings.max_waiters)
    publisher = HintPublisher(HintSender(make_celery(settings.redis), settings.redis))
    return Services(
        settings=settings,
        engine=engine,
        secrets=SecretBox(settings.keys),
        resolver=Resolver(engine),
        publisher=publisher,
        recorder=Recorder(
            settings.postgres,
            publisher,
            call_seconds=settings.accept_timeout_seconds,
            first_hint_seconds=settings.first_hint_seconds,
        ),
        outcomes=outcomes,
        listener=Listener(settings.redis, outcomes.settled),
    )


def services() -> Services:
    """The services of the application that handles the current request."""
    return cast(Services, current_app.extensions[EXTENSION])
