"""What the API owns in one process, made in one place and passed on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import psycopg2
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from api.auth import passwords
from api.deadlines import Deadlines
from api.endings import Endings
from api.ingress.loops import Loops
from api.ingress.outcomes import Outcomes
from api.ingress.parts import IngressParts
from api.ingress.record import Recorder
from api.ingress.resolve import LOOK_UPS, Resolver
from api.lines import Lines
from api.threads import Threads
from api.urls import Urls
from api.work import Workshop
from shared.clock import database_clock
from shared.config import Settings
from shared.crypto import SecretBox
from shared.postgres.connections import open_database
from shared.redis.hints import HintPublisher, HintSender
from shared.redis.queues import FRESH, make_celery
from shared.redis.settlements import Listener
from shared.threads import first_dead

POOL_SIZE = 8
READ_SECONDS = 5.0

# Half the time of a call: a silent connection is noticed, and another one asked, within it.
LOOK_UP_SECONDS = 1.5

# For the public status of triggers and for hashing large bodies.
INGRESS_THREADS = 4
MAX_INGRESS_CALLS = 2_000

log = structlog.get_logger("services")


@dataclass(frozen=True, slots=True)
class Services:
    """The settings, the connections and the threads of one API process."""

    settings: Settings
    database: Engine
    workshop: Workshop
    ingress: IngressParts
    publisher: HintPublisher
    listener: Listener
    endings: Endings
    lines: Lines

    def start(self) -> None:
        self._measure_clock()
        self.publisher.start()
        self.ingress.start()
        self.listener.start()

    def dead_thread(self) -> str | None:
        """The name of a loop that has ended although nobody stopped it, None when all are well."""
        parts = (
            self.ingress.recorder,
            self.ingress.large_recorder,
            self.ingress.outcomes,
            self.publisher,
            self.listener,
        )
        return first_dead(part.thread for part in parts)

    def let_waiters_go(self) -> None:
        """Nobody waits for the end of anything any longer, nor takes what has no end in sight."""
        self.endings.stop()
        self.lines.cut()
        self.ingress.outcomes.stop()

    def _measure_clock(self) -> None:
        """Learn PostgreSQL's time before the first key is made.

        Without PostgreSQL nothing is recorded anyway.
        """
        try:
            with self.database.connect() as connection:
                database_clock.measure(connection.connection.cursor())
        except (SQLAlchemyError, psycopg2.Error) as error:
            log.warning("clock_not_measured", error=type(error).__name__)

    def stop(self) -> None:
        """Let waiting callers go, commit what is queued, send its hints, close."""
        passwords.stop()
        self.listener.stop()
        self.endings.stop()
        self.lines.stop()
        self.ingress.stop()
        self.publisher.stop()
        self.ingress.close()
        self.database.dispose()


def make_services(settings: Settings) -> Services:
    """Make everything, start nothing."""
    database = open_database(settings.postgres, "api", pool_size=POOL_SIZE, call_seconds=READ_SECONDS)
    outcomes = Outcomes(settings.postgres, settings.max_waiters)
    publisher = HintPublisher(HintSender(make_celery(settings.redis), settings.redis))

    def hint(trigger_ids: Iterable[UUID]) -> None:
        publisher.offer(FRESH, list(trigger_ids))

    endings, lines = Endings(), Lines()

    def settled(ids: Iterable[UUID]) -> None:
        told = list(ids)
        outcomes.settled(told)
        endings.settled(told)

    secrets = SecretBox(settings.keys)
    workshop = Workshop(
        database,
        settings,
        secrets,
        hint=hint,
        hint_probe=publisher.offer_probe,
        endings=endings,
        lines=lines,
        tell_settled=outcomes.settled,
    )
    return Services(
        settings=settings,
        database=database,
        workshop=workshop,
        ingress=_make_ingress(settings, database, secrets, publisher, outcomes),
        publisher=publisher,
        listener=Listener(settings.redis, settled),
        endings=endings,
        lines=lines,
    )


def _make_ingress(
    settings: Settings, database: Engine, secrets: SecretBox, publisher: HintPublisher, outcomes: Outcomes
) -> IngressParts:
    recorder, large_recorder = (
        Recorder(
            settings.postgres,
            publisher,
            call_seconds=settings.accept_timeout_seconds,
            first_hint_seconds=settings.first_hint_seconds,
        )
        for _ in range(2)
    )
    threads = Threads("ingress", INGRESS_THREADS, MAX_INGRESS_CALLS)
    return IngressParts(
        settings=settings,
        secrets=secrets,
        database=database,
        urls=Urls(settings.base_url),
        deadline=Deadlines(settings.accept_timeout_seconds),
        resolver=Resolver(
            open_database(settings.postgres, "resolve", pool_size=LOOK_UPS, call_seconds=LOOK_UP_SECONDS)
        ),
        loops=Loops(database, threads),
        recorder=recorder,
        large_recorder=large_recorder,
        outcomes=outcomes,
        threads=threads,
    )
