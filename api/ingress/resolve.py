"""Which callback a trigger URL means, as a frozen snapshot that is at most TTL_SECONDS old.

Invariants:

- A change of a callback (switched off, deleted, token rotated) holds for every call that arrives
  TTL_SECONDS later. So does the end of a retired token, which leads to its callback until then.
- A snapshot serves while it is refreshed, which begins at half of that time.
- One look-up at a time for each address: whoever wants it meanwhile waits for the same answer.
- Addresses that are not known to be a callback's have threads of their own, so that a stranger who
  guesses holds nobody up. Unknown ones are remembered, within a bound, and push out no known ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine, text

from api.threads import Threads
from api.urls import NAME, TOKEN_PREFIX
from shared.clock import database_clock
from shared.errors import Forbidden, NotFound, Unavailable

TTL_SECONDS = 1.0
REFRESH_SECONDS = TTL_SECONDS / 2

# Of each kind: known addresses and unknown ones.
MAX_ENTRIES = 20_000

# Callbacks that are looked up at once, each on a connection of its own: half of them known ones.
LOOK_UPS = 4
MAX_LOOK_UPS = 1_000

PREFIX_CHARS = len(TOKEN_PREFIX)

# CREDENTIAL_HEADERS of a caller that an action names among the headers that it forwards.
_FORWARDS = """ARRAY(SELECT DISTINCT lower(h) FROM actions a CROSS JOIN LATERAL jsonb_array_elements_text(
    CASE WHEN jsonb_typeof(a.config->'forwardHeaders') = 'array' THEN a.config->'forwardHeaders' ELSE '[]' END) h
  WHERE a.callback_id = c.id AND a.deleted_at IS NULL
    AND lower(h) IN ('authorization', 'cookie'))"""
_FIND = f"""
SELECT c.id, c.user_id, c.active_status AND u.is_active AND u.deleted_at IS NULL, c.timeout_duration, c.cache_period,
  {_FORWARDS}
FROM ({{named}}) named JOIN callbacks c ON c.id = named.id JOIN users u ON u.id = c.user_id
WHERE c.deleted_at IS NULL
"""  # noqa: S608 - fixed texts
# A token is in force or retired, never both: so one row comes, by one index or the other.
_KNOWN_BY = """
  SELECT id FROM callbacks WHERE trigger_token = :name UNION ALL
  SELECT callback_id FROM retired_tokens WHERE token = :name AND expires_at > now()"""
_BY_TOKEN = text(_FIND.format(named=_KNOWN_BY))
_BY_PATH = text(_FIND.format(named="SELECT id FROM callbacks WHERE custom_path = :name"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ingress needs of a callback.

    forwards: credentials of its callers that its actions send on.
    """

    callback_id: UUID
    user_id: UUID
    active: bool
    timeout_ms: int
    cache_period_seconds: int
    forwards: frozenset[str] = frozenset()


class _Known(NamedTuple):
    """What was read, and when that was asked for (monotonic seconds)."""

    asked_at: float
    snapshot: Snapshot | None


class _Looking(NamedTuple):
    """A look-up under way, and when it was asked for."""

    asked_at: float
    future: Future[Snapshot | None]


class Resolver:
    """Finds callbacks by the address that a call names. Its connections and threads are its own."""

    def __init__(self, database: Engine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._threads = Threads("resolve", LOOK_UPS // 2, MAX_LOOK_UPS)
        self._guess_threads = Threads("resolve-guesses", LOOK_UPS // 2, MAX_LOOK_UPS)
        self._callbacks: dict[str, _Known] = {}
        self._strangers: dict[str, _Known] = {}
        self._looking: dict[str, _Looking] = {}

    async def find(self, address: str) -> Snapshot:
        """The callback at this address, `/t/{triggerToken}` or `/c/{customPath}`.

        Raises NotFound, and Unavailable when too many look-ups are under way.
        """
        now = self._monotonic()
        known = self._callbacks.get(address) or self._strangers.get(address)
        age = now - known.asked_at if known is not None else TTL_SECONDS
        if known is not None and age < TTL_SECONDS:
            snapshot = known.snapshot
            if age >= REFRESH_SECONDS and snapshot is not None:
                self._refresh(address, now)
        else:
            snapshot = await self._look_up(address, now)
        if snapshot is None:
            raise NotFound(
                "No callback has this trigger URL.",
                code="unknown_trigger_url",
                hint="Copy the triggerUrl from the callback; it changes when the token is rotated.",
            )
        return snapshot

    def _refresh(self, address: str, now: float) -> None:
        with contextlib.suppress(Unavailable):  # what is known serves; the next call tries again
            self._ask(address, now)

    async def _look_up(self, address: str, now: float) -> Snapshot | None:
        if NAME.fullmatch(address[PREFIX_CHARS:]) is None:
            return None  # no URL of ours: not looked up, and not remembered
        # one caller's time may be over, the others' is not
        return await asyncio.shield(asyncio.wrap_future(self._ask(address, now)))

    def _ask(self, address: str, now: float) -> Future[Snapshot | None]:
        """Ask PostgreSQL, or join who has asked less than TTL_SECONDS ago."""
        looking = self._looking.get(address)
        if looking is None or now - looking.asked_at >= TTL_SECONDS:
            threads = self._threads if address in self._callbacks else self._guess_threads
            looking = _Looking(now, threads.submit(self._read, address))
            self._looking[address] = looking
            looking.future.add_done_callback(partial(self._keep, address, looking))
        return looking.future

    def _keep(self, address: str, looking: _Looking, looked: Future[Snapshot | None]) -> None:
        """Remember an answer. It runs in the thread that has read it."""
        if self._looking.get(address) is looking:
            del self._looking[address]
        if looked.cancelled() or looked.exception() is not None:
            return  # what PostgreSQL did not say is not remembered
        snapshot = looked.result()
        here, there = self._callbacks, self._strangers
        if snapshot is None:
            here, there = there, here
        there.pop(address, None)
        if len(here) >= MAX_ENTRIES:
            here.clear()
        here[address] = _Known(looking.asked_at, snapshot)

    def _read(self, address: str) -> Snapshot | None:
        find = _BY_TOKEN if address.startswith(TOKEN_PREFIX) else _BY_PATH
        with self._database.connect() as connection:
            # PostgreSQL was away at the start; the first key needs its time
            if not database_clock.is_measured:
                database_clock.measure(connection.connection.cursor())
            row = connection.execute(find, {"name": address[PREFIX_CHARS:]}).first()
        if row is None:
            return None
        callback_id, user_id, active, timeout_ms, cache_seconds, forwards = row
        ids = UUID(str(callback_id)), UUID(str(user_id))
        return Snapshot(*ids, active, timeout_ms, cache_seconds, frozenset(forwards))

    def stop(self) -> None:
        self._threads.stop()
        self._guess_threads.stop()
        self._database.dispose()


def must_be_active(snapshot: Snapshot) -> None:
    """Refuse calls of a callback that is switched off."""
    if not snapshot.active:
        raise Forbidden(
            "This callback is switched off.",
            code="callback_inactive",
            hint="Set activeStatus to true, or ask the owner of the callback to.",
        )
