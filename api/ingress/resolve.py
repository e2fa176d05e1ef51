"""Which callback a trigger URL means, as a frozen snapshot that is at most TTL_SECONDS old.

Invariant: a change of a callback (switched off, deleted, token rotated) holds for every call that arrives
TTL_SECONDS later. Unknown names are remembered as well, so that a caller with a stale URL costs the database little; the
cache is bounded and forgets everything when it is full.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, text

from api.urls import CUSTOM_PREFIX, NAME, TOKEN_PREFIX
from shared.clock import database_clock
from shared.errors import Forbidden, NotFound

TTL_SECONDS = 1.0
MAX_ENTRIES = 20_000

_FIND = """
SELECT c.id, c.user_id, c.active_status AND u.is_active AND u.deleted_at IS NULL, c.timeout_duration, c.cache_period
FROM callbacks c JOIN users u ON u.id = c.user_id
WHERE c.deleted_at IS NULL AND c.{column} = :name
"""
_BY_TOKEN = text(_FIND.format(column="trigger_token"))
_BY_PATH = text(_FIND.format(column="custom_path"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ingress needs of a callback."""

    callback_id: UUID
    user_id: UUID
    active: bool
    timeout_ms: int
    cache_period_seconds: int


class Resolver:
    """Finds callbacks by trigger token or custom path."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._cache: dict[tuple[bool, str], tuple[float, Snapshot | None]] = {}

    def by_token(self, token: str) -> Snapshot:
        """The callback with this trigger token. Raises NotFound."""
        return self._find(True, token)

    def by_path(self, path: str) -> Snapshot:
        """The callback with this custom path. Raises NotFound."""
        return self._find(False, path)

    def at_hand(self, url_path: str) -> Snapshot | None:
        """The callback that a trigger URL's path (`/t/…`, `/c/…`) names, if that is known without asking PostgreSQL."""
        kind = url_path[:3]
        if kind not in (TOKEN_PREFIX, CUSTOM_PREFIX):
            return None
        expires, snapshot = self._cache.get((kind == TOKEN_PREFIX, url_path[3:]), (0.0, None))
        return snapshot if self._monotonic() < expires else None

    def _find(self, is_token: bool, name: str) -> Snapshot:
        key = (is_token, name)
        now = self._monotonic()
        expires, snapshot = self._cache.get(key, (0.0, None))
        if now >= expires:
            snapshot = self._read(is_token, name) if NAME.fullmatch(name) else None
            if len(self._cache) >= MAX_ENTRIES:
                self._cache.clear()
            self._cache[key] = (now + TTL_SECONDS, snapshot)
        if snapshot is None:
            raise NotFound(
                "No callback has this trigger URL.",
                code="unknown_trigger_url",
                hint="Copy the triggerUrl from the callback; it changes when the token is rotated.",
            )
        return snapshot

    def _read(self, is_token: bool, name: str) -> Snapshot | None:
        with self._engine.connect() as connection:
            if (
                not database_clock.is_measured
            ):  # PostgreSQL was away at the start; the first key needs its time
                database_clock.measure(connection.connection.cursor())
            row = connection.execute(_BY_TOKEN if is_token else _BY_PATH, {"name": name}).first()
        return None if row is None else Snapshot(UUID(str(row[0])), UUID(str(row[1])), *row[2:])


def must_be_active(snapshot: Snapshot) -> None:
    """Refuse calls of a callback that is switched off."""
    if not snapshot.active:
        raise Forbidden(
            "This callback is switched off.",
            code="callback_inactive",
            hint="Set activeStatus to true, or ask the owner of the callback to.",
        )
