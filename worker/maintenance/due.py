"""Hints what is due: lost hints, retries whose time has come, runs that were released or void.

Invariants:

- Hinting moves `hint_at` forward (30 s, doubling up to 10 min) and never `due_at`, so that a
  backlog is not hinted again each pass and a hint finds what it names claimable.
- No tenant takes more than its share of a pass, nor anything while so much of it waits in this
  worker that more would be forgotten there. Another worker hints that.
- Runs that were never claimed go into their lane only while it is shorter than one pass, and while
  this worker would not forget them, since enough of their tenant's wait here. Beyond that they are
  held back: their `hint_at` moves, and a worker that would keep them takes them before it comes.
- Whether anybody waits beside those who have had a share is found out by a look past everything
  that is due of them, at most a fiftieth of the time. Between two such looks only what has come due
  since is looked through.
- When Redis takes no hints, or an earlier hint came to nothing, the ids are offered to this
  worker's own engine as far as it has room, so that deliveries go on without Redis and without a
  Celery consumer that has fallen asleep.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.postgres.connections import OwnedConnection
from shared.redis.hints import HintSender
from shared.redis.queues import FRESH, MAX_HINT_IDS, RETRY
from shared.runs import remind
from worker.maintenance.duty import is_mine

MAX_PER_PASS = 1_000

# A lane with so many messages holds a pass.
PASS_MESSAGES = MAX_PER_PASS // MAX_HINT_IDS
MAX_PER_TENANT = 200

# So many due rows are looked at in one pass, to find a fair share for each tenant.
LOOK_AHEAD = 5_000
MAX_PASSES = 20

# When nothing was held back for so long, all that was has been hinted.
FORGET_SECONDS = 2.0 * remind.EARLY_SECONDS

# A look past a backlog is good for so many times as long as it took, and no longer than that. (What
# another transaction held meanwhile, and let go of, it has not seen.)
GOOD_FOR, GOOD_SECONDS = 50, 30.0

# A transaction that makes something due commits that much later at most.
COMMIT_SECONDS = 10.0

# The claim of what fits takes ms; this only bounds a PostgreSQL that has gone meanwhile.
OFFER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, order=True)
class _Taken:
    """One due run. hinted_before: a hint for it has been sent since it became due."""

    trigger_id: UUID
    user_id: UUID
    lane: str
    hinted_before: bool


class _Alone:
    """Knows for a while that nothing is due but what belongs to certain tenants."""

    def __init__(self) -> None:
        self._tenants: Collection[UUID] = frozenset()
        self._since = self._until = float("-inf")

    def holds(self, served: Collection[UUID]) -> bool:
        """Whether a look past these tenants would find only what has come due lately."""
        return time.monotonic() < self._until and all(one in served for one in self._tenants)

    @property
    def back_seconds(self) -> float:
        """How far a look has to go back to find that."""
        return time.monotonic() - self._since + COMMIT_SECONDS

    def looked(self, served: Collection[UUID], began: float) -> None:
        """A look past these tenants found nothing at all."""
        if not self.holds(served):
            now = time.monotonic()
            self._tenants, self._until = frozenset(served), now + min(GOOD_FOR * (now - began), GOOD_SECONDS)
        self._since = began


class OwnEngine(Protocol):
    """What the engine of this process takes. free: so many runs have room."""

    @property
    def free(self) -> int: ...

    @property
    def appetite(self) -> int:
        """How many more runs it would keep until there is room."""
        ...

    def crowded(self) -> Collection[UUID]:
        """The tenants of whom it wants nothing more just now."""
        ...

    def offer(self, ids: Sequence[UUID], wait_seconds: float) -> bool:
        """Hand over ids, and wait until they have been looked at. False: some were not."""
        ...

    def keep(self, users: Mapping[UUID, UUID]) -> bool:
        """Have runs wait there, each with its tenant, as they are. False: it takes none more."""
        ...


class Due:
    """Sends hints for what is due."""

    name = "due"

    def __init__(self, sender: HintSender, engine: OwnEngine, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._sender = sender
        self._engine = engine
        # When something was last held back (monotonic seconds); None if all was hinted since.
        # What another process has held back before us counts as held back now.
        self._held_back_at: float | None = time.monotonic()
        self._alone, self._alone_early = _Alone(), _Alone()

    def do(self, connection: OwnedConnection) -> int:
        """Hint what is due, then what was held back."""
        hinted = self._hint(connection)
        if self._held_back_at is not None:
            hinted += self._hint(connection, early=True)
        return hinted

    def _hint(self, connection: OwnedConnection, *, early: bool = False) -> int:
        """Hint pass after pass, until nothing is due.

        Who has had a share waits until the others have had theirs. A tenant beside whom nobody
        waits gets whole passes. early: also what was held back, while the lane is short and the own
        engine would keep it; it goes there at once.
        """
        hinted = 0
        served: set[UUID] = set()
        share, alone = MAX_PER_TENANT, False
        for _ in range(MAX_PASSES):
            lane = self._sender.length(FRESH)
            if early and (lane is None or lane >= PASS_MESSAGES):
                break
            limit = MAX_PER_PASS if lane is not None else min(self._engine.free, MAX_PER_PASS)
            if early:
                limit = min(self._engine.appetite, limit)
            if limit == 0:
                break
            taken = self._look(connection, limit, share, served, early=early)
            if taken is None:
                break
            if taken:
                hinted += len(taken)
                if not (self._feed if early else self._hand_on)(connection, taken, lane):
                    break
                if not alone:
                    shares = Counter(one.user_id for one in taken)
                    served |= {user_id for user_id, took in shares.items() if took >= share}
            elif served:  # nobody else waits: these divide the passes that are left among themselves
                share, alone = max(MAX_PER_PASS // len(served), MAX_PER_TENANT), len(served) == 1
                served = set()
            else:
                if early:
                    self._forget_held_back()
                break
        return hinted

    def _is_held_back(self, one: _Taken, lane: int | None, crowded: Collection[UUID]) -> bool:
        """Whether it would only lengthen a lane that is long, or be forgotten here."""
        if one.user_id in crowded or (lane is not None and lane >= PASS_MESSAGES):
            self._held_back_at = time.monotonic()
            return True
        return False

    def _forget_held_back(self) -> None:
        if self._held_back_at is not None and time.monotonic() - self._held_back_at > FORGET_SECONDS:
            self._held_back_at = None

    def _look(
        self, connection: OwnedConnection, limit: int, share: int, served: Collection[UUID], *, early: bool
    ) -> list[_Taken] | None:
        """Take some of what is due beside those who have had a share; repeat no long look."""
        if not served:
            return self._take(connection, limit, share, served, early=early)
        alone, began = self._alone_early if early else self._alone, time.monotonic()
        is_known = alone.holds(served)
        if is_known and early:  # what was held back is scattered over all that comes due later
            return []
        back_seconds = alone.back_seconds if is_known else remind.ALL_SECONDS
        taken = self._take(connection, limit, share, served, back_seconds, early=early)
        if taken == []:
            alone.looked(served, began)
        return taken

    def _take(
        self,
        connection: OwnedConnection,
        limit: int,
        share: int,
        served: Collection[UUID],
        back_seconds: float = remind.ALL_SECONDS,
        *,
        early: bool = False,
    ) -> list[_Taken] | None:
        """Some of what is due, whose `hint_at` has moved now; None while another process hints."""
        with connection.transaction() as cursor:
            if not is_mine(cursor, self.name):
                return None
            rows = remind.take_due(
                cursor,
                look_ahead=LOOK_AHEAD,
                of_each_user=share,
                at_most=limit,
                but_of=served,
                back_seconds=back_seconds,
                early=early,
            )
            return [_Taken(row[0], row[1], RETRY if row[2] else FRESH, row[3]) for row in rows]

    def _feed(self, connection: OwnedConnection, taken: list[_Taken], _lane: int | None) -> bool:
        """Have the own engine keep these. False: it takes none any more; they stay due."""
        ids = {one.trigger_id: one.user_id for one in sorted(taken)}
        if self._engine.keep(ids):
            return True
        with connection.transaction() as cursor:
            remind.leave_due(cursor, ids)
        return False

    def _hand_on(self, connection: OwnedConnection, taken: list[_Taken], lane: int | None) -> bool:
        """Send hints; what Redis does not take, or had before to no avail, goes to the own engine.

        lane: how many messages the lane of what was never claimed holds; None without Redis. False:
        something found no taker and stays due.
        """
        crowded = set(self._engine.crowded())
        direct = {
            one.trigger_id
            for one in taken
            if (one.hinted_before or lane is None) and one.user_id not in crowded
        }
        direct = set(sorted(direct)[: self._engine.free])
        unsent: list[UUID] = []
        for name in (FRESH, RETRY):
            ids = [
                one.trigger_id
                for one in taken
                if one.lane == name
                and one.trigger_id not in direct
                and not (name == FRESH and self._is_held_back(one, lane, crowded))
            ]
            for start in range(0, len(ids), MAX_HINT_IDS):
                hint = ids[start : start + MAX_HINT_IDS]
                if not self._sender.send(name, hint):
                    unsent += hint
        spare = max(self._engine.free - len(direct), 0)
        for_engine = sorted(direct) + unsent[:spare]
        left = unsent[spare:]
        if for_engine and not self._engine.offer(for_engine, OFFER_SECONDS):
            left += for_engine
        if left:
            with connection.transaction() as cursor:
                remind.leave_due(cursor, left)
        return not left
