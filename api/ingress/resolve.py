"""Which callback a trigger URL means, as a frozen snapshot that is at most TTL_SECONDS old.

Invariants:

- A change of a callback (switched off, deleted, token rotated) holds for every call that arrives
  TTL_SECONDS later. Unknown names are remembered as well, so that a caller with a stale URL costs
  the database little.
- The cache is bounded and forgets everything when it is full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import Engine, text

from api.threads import Threads
from api.urls import NAME, TOKEN_PREFIX
from shared.clock import database_clock
from shared.errors import Forbidden, NotFound

TTL_SECONDS = 1.0
MAX_ENTRIES = 20_000
LOOK_UPS = 4
"""How many callbacks are looked up at once, each on a connection of its own."""
MAX_WAITING = 2_000
PREFIX_CHARS = len(TOKEN_PREFIX)
UNKNOWN = (float("-inf"), None)

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
    """Finds callbacks by the address that a call names. Its connections and threads are its own."""

    def __init__(self, database: Engine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._threads = Threads("resolve", LOOK_UPS, MAX_WAITING)
        self._cache: dict[str, tuple[float, Snapshot | None]] = {}
        self._looking: dict[str, asyncio.Future[Snapshot | None]] = {}

    async def find(self, address: str) -> Snapshot:
        """The callback at this address, `/t/{triggerToken}` or `/c/{customPath}`.

        Raises NotFound.
        """
        expires, snapshot = self._cache.get(address, UNKNOWN)
        if self._monotonic() >= expires:
            snapshot = await self._look_up(address)
        if snapshot is None:
            raise NotFound(
                "No callback has this trigger URL.",
                code="unknown_trigger_url",
                hint="Copy the triggerUrl from the callback; it changes when the token is rotated.",
            )
        return snapshot

    async def _look_up(self, address: str) -> Snapshot | None:
        """Ask PostgreSQL. Whoever wants the same address meanwhile waits for the same answer."""
        if NAME.fullmatch(address[PREFIX_CHARS:]) is None:
            return None  # no URL of ours: not looked up, and not remembered
        looking = self._looking.get(address)
        if looking is None:
            expires = self._monotonic() + TTL_SECONDS
            looking = self._looking[address] = self._threads.call(self._read, address)
            looking.add_done_callback(partial(self._keep, address, expires))
        return await asyncio.shield(looking)  # one caller's time may be over, the others' is not

    def _keep(self, address: str, expires: float, looked: asyncio.Future[Snapshot | None]) -> None:
        del self._looking[address]
        if looked.cancelled() or looked.exception() is not None:
            return  # what PostgreSQL did not say is not remembered
        if len(self._cache) >= MAX_ENTRIES:
            self._cache.clear()
        self._cache[address] = (expires, looked.result())

    def _read(self, address: str) -> Snapshot | None:
        find = _BY_TOKEN if address.startswith(TOKEN_PREFIX) else _BY_PATH
        with self._database.connect() as connection:
            # PostgreSQL was away at the start; the first key needs its time
            if not database_clock.is_measured:
                database_clock.measure(connection.connection.cursor())
            row = connection.execute(find, {"name": address[PREFIX_CHARS:]}).first()
        return None if row is None else Snapshot(UUID(str(row[0])), UUID(str(row[1])), *row[2:])

    def stop(self) -> None:
        self._threads.stop()
        self._database.dispose()


def must_be_active(snapshot: Snapshot) -> None:
    """Refuse calls of a callback that is switched off."""
    if not snapshot.active:
        raise Forbidden(
            "This callback is switched off.",
            code="callback_inactive",
            hint="Set activeStatus to true, or ask the owner of the callback to.",
        )
