"""Hints what is due: lost hints, retries whose time has come, runs that were released or void.

Invariants:

- Hinting moves `hint_at` forward (30 s, doubling up to 10 min) and never `due_at`, so that a
  backlog is not hinted again each pass and a hint finds what it names claimable.
- No tenant takes more than its share of a pass, nor anything while so much of it waits in this
  worker that more would be forgotten there. Another worker hints that.
- When Redis takes no hints, or an earlier hint came to nothing, the ids are offered to this
  worker's own engine as far as it has room, so that deliveries go on without Redis and without a
  Celery consumer that has fallen asleep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.postgres.connections import OwnedConnection
from shared.redis.hints import HintSender
from shared.redis.queues import FRESH, MAX_HINT_IDS, RETRY
from shared.runs import remind
from worker.maintenance.duty import is_mine

MAX_PER_PASS = 1_000
MAX_PER_TENANT = 200

# So many due rows are looked at in one pass, to find a fair share for each tenant.
LOOK_AHEAD = 5_000
MAX_PASSES = 20

# The claim of what fits takes ms; this only bounds a PostgreSQL that has gone meanwhile.
OFFER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Taken:
    """One due run. hinted_before: a hint for it has been sent since it became due."""

    trigger_id: UUID
    user_id: UUID
    lane: str
    hinted_before: bool


class Due:
    """Sends hints for what is due.

    offer: hands ids to the own engine, without waiting for room; room: how many fit; crowded: the
    tenants of whom it wants nothing more just now.
    """

    name = "due"

    def __init__(
        self,
        sender: HintSender,
        offer: Callable[[Sequence[UUID], float], bool],
        room: Callable[[], int],
        interval_seconds: float,
        crowded: Callable[[], Sequence[UUID]] = lambda: (),
    ) -> None:
        self.interval_seconds = interval_seconds
        self._crowded = crowded
        self._sender = sender
        self._offer = offer
        self._room = room

    def do(self, connection: OwnedConnection) -> int:
        """Hint pass after pass, until nothing is due.

        Who has had a share waits until the others have had theirs. A tenant beside whom nobody
        waits gets whole passes.
        """
        hinted = 0
        served: set[UUID] = set()
        share, alone = MAX_PER_TENANT, False
        for _ in range(MAX_PASSES):
            redis_answers = self._sender.answers()
            limit = MAX_PER_PASS if redis_answers else min(self._room(), MAX_PER_PASS)
            if limit == 0:
                break
            taken = self._take(connection, limit, share, served)
            if taken:
                hinted += len(taken)
                if not self._hand_on(connection, taken, redis_answers):
                    break
                if not alone:
                    shares = Counter(one.user_id for one in taken)
                    served |= {user_id for user_id, took in shares.items() if took >= share}
            elif served:  # nobody else waits: these divide the passes that are left among themselves
                share, alone = max(MAX_PER_PASS // len(served), MAX_PER_TENANT), len(served) == 1
                served = set()
            else:
                break
        return hinted

    def _take(
        self, connection: OwnedConnection, limit: int, share: int, served: Collection[UUID]
    ) -> list[_Taken]:
        with connection.transaction() as cursor:
            if not is_mine(cursor, self.name):
                return []
            rows = remind.take_due(
                cursor,
                look_ahead=LOOK_AHEAD,
                of_each_user=share,
                at_most=limit,
                but_of={*served, *self._crowded()},
            )
            return [_Taken(row[0], row[1], RETRY if row[2] else FRESH, row[3]) for row in rows]

    def _hand_on(self, connection: OwnedConnection, taken: list[_Taken], redis_answers: bool) -> bool:
        """Send hints; what Redis does not take, or had before to no avail, goes to the own engine.

        False: something found no taker and stays due.
        """
        direct = {one.trigger_id for one in taken if one.hinted_before or not redis_answers}
        direct = set(sorted(direct)[: self._room()])
        unsent: list[UUID] = []
        for lane in (FRESH, RETRY):
            ids = [one.trigger_id for one in taken if one.lane == lane and one.trigger_id not in direct]
            for start in range(0, len(ids), MAX_HINT_IDS):
                hint = ids[start : start + MAX_HINT_IDS]
                if not self._sender.send(lane, hint):
                    unsent += hint
        spare = max(self._room() - len(direct), 0)
        for_engine = sorted(direct) + unsent[:spare]
        left = unsent[spare:]
        if for_engine and not self._offer(for_engine, OFFER_SECONDS):
            left += for_engine
        if left:
            with connection.transaction() as cursor:
                remind.leave_due(cursor, left)
        return not left
