"""The unit of work of one management call: who acts, one transaction, and what follows its commit.

Invariants:

- Everything that a call changes is committed together or not at all.
- Right before COMMIT the caller is asked for (api/patience.py), so that whoever was told 503 finds
  nothing changed.
- What after_commit() was given runs only after the commit, and its failure changes nothing any
  more.

No Flask: the API, the start-up and the command line open their work here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from api.endings import Endings
from api.lines import Lines
from api.patience import Patience, outcome_unknown
from api.urls import Urls
from shared.config import Settings
from shared.crypto import SecretBox
from shared.errors import ConfigError, Unauthorized
from shared.models import Base, UserRole

log = structlog.get_logger("work")

Row = TypeVar("Row", bound=Base)

Tell = Callable[[Iterable[UUID]], None]
"""Takes the ids of triggers."""

Hold = Callable[[int], None]
"""Takes a number of bytes."""


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf something is done, and what may be done.

    through: a session, an API key, no token at all, or this machine's own shell; the last two have
    no user. through_id: which session or key. address: the caller's. permissions: what the token
    allows and the user's role grants.
    """

    through: Literal["session", "key", "nobody", "shell"]
    user_id: UUID | None = None
    role: UserRole | None = None
    permissions: frozenset[str] = frozenset()
    through_id: UUID | None = None
    address: str | None = None
    request_id: str | None = None


SHELL = Actor("shell")
"""Whoever may start Pointsman or run its commands on this machine."""


def _unlimited(_size: int) -> None:
    """Where no process is to be kept small."""


@dataclass(slots=True)
class Work:
    """One call's work.

    hold: asked before many bytes are read; raises Unavailable when the process holds too many.
    """

    shop: Workshop
    session: Session
    actor: Actor = SHELL
    hold: Hold = _unlimited
    _followers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return self.shop.settings

    @property
    def secrets(self) -> SecretBox:
        return self.shop.secrets

    @property
    def urls(self) -> Urls:
        return self.shop.urls

    @property
    def owner(self) -> UUID:
        """Whose data this work is about: the actor's own."""
        if self.actor.user_id is None:
            raise Unauthorized("Nobody is known to be calling.")
        return self.actor.user_id

    def fresh(self, row: Row) -> Row:
        """A row as PostgreSQL has it now: written, with its defaults and times."""
        self.session.add(row)
        self.session.flush()
        self.session.refresh(row)
        return row

    def after_commit(self, do: Callable[[], None]) -> None:
        """Do this once the work is committed, and never if it is not."""
        self._followers.append(do)

    def hint(self, trigger_ids: Iterable[UUID]) -> None:
        """Tell workers of new runs, once they are committed.

        A hint that is lost is the sweep's to repair.
        """
        ids = list(trigger_ids)
        self.after_commit(lambda: self.shop.hint(ids))

    def hint_probe(self) -> None:
        """Tell workers that a probe waits, once it is committed."""
        self.after_commit(self.shop.hint_probe)

    def tell_settled(self, trigger_ids: Iterable[UUID]) -> None:
        """Tell callers that wait for these triggers, once their end is committed."""
        ids = list(trigger_ids)
        self.after_commit(lambda: self.shop.tell_settled(ids))

    def audit(self, event: str, **what: object) -> None:
        """Note who did this, once it is committed: a line in the log.

        what: ids and numbers, never a secret.
        """
        actor = self.actor
        who = {
            "user": actor.user_id,
            "through": actor.through,
            "through_id": actor.through_id,
            "address": actor.address,
            "request": actor.request_id,
        }
        fields = {
            name: str(value) if isinstance(value, UUID) else value for name, value in (who | what).items()
        }
        self.after_commit(lambda: log.info(event, **fields))

    def follow_up(self) -> None:
        """Do what was to follow the commit. Called once, by whoever committed."""
        for do in self._followers:
            try:
                do()
            except Exception as error:  # noqa: BLE001 - the change is made; its caller must hear so
                log.warning("follow_up_failed", error=type(error).__name__)


def _nobody(_trigger_ids: Iterable[UUID] = ()) -> None:
    """Where no worker and no caller listens, as at the start: the sweep finds what is new."""


class Workshop:
    """Opens work in one process.

    secrets: None where no work seals any. hint, hint_probe, tell_settled: whom a commit is told to.
    endings: who waits for what a call has begun; lines: who takes long lists. None where nobody
    can.
    """

    def __init__(
        self,
        database: Engine,
        settings: Settings,
        secrets: SecretBox | None = None,
        *,
        hint: Tell = _nobody,
        hint_probe: Callable[[], None] = _nobody,
        endings: Endings | None = None,
        lines: Lines | None = None,
        tell_settled: Tell = _nobody,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self.settings = settings
        self.urls = Urls(settings.base_url)
        self.hint = hint
        self.hint_probe = hint_probe
        self.endings = endings
        self.lines = lines
        self.tell_settled = tell_settled

    @property
    def secrets(self) -> SecretBox:
        if self._secrets is None:
            raise ConfigError("This work needs POINTSMAN_SECRET_KEYS.")
        return self._secrets

    @contextmanager
    def open(
        self,
        patience: Patience | None = None,
        actor: Actor = SHELL,
        *,
        one_moment: bool = False,
        hold: Hold = _unlimited,
    ) -> Iterator[Work]:
        """A unit of work that commits at the end of the block and rolls back on any error.

        one_moment: for work that only reads: all that it reads is of the same moment, however many
        statements that takes. Raises Unavailable when the caller has been told 503 meanwhile, or
        when PostgreSQL goes away during COMMIT.
        """
        with Session(self._database) as session:
            if one_moment:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            work = Work(self, session, actor, hold)
            yield work
            session.flush()
            if patience is not None:
                patience.hold()
            _commit(session)
        work.follow_up()


def _commit(session: Session) -> None:
    try:
        session.commit()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise outcome_unknown("PostgreSQL went away during the commit") from error
