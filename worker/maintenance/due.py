"""Hints what is due: lost hints, retries whose time has come, runs that were released or void.

Invariants: hinting moves `hint_at` forward (30 s, doubling up to 10 min) and never `due_at`, so that a
backlog is not hinted again each pass and a hint finds what it names claimable. No tenant takes more than
its share of a pass. When Redis takes no hints the ids are offered to this worker's own engine, so that
deliveries go on without Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from shared.db import OwnedConnection
from shared.hints import HintSender
from shared.queues import FRESH, MAX_HINT_IDS, RETRY
from worker.maintenance.duty import is_mine

MAX_PER_PASS = 1_000
MAX_PER_TENANT = 200
LOOK_AHEAD = 5_000  # due rows looked at in one pass to find a fair share for each tenant
MAX_PASSES = 20
OFFER_SECONDS = 5.0  # the claim of what fits takes ms; this only bounds a PostgreSQL that has gone meanwhile

_TAKE = """
WITH due AS (
  SELECT trigger_id, user_id, hint_at FROM runs WHERE status = 'PENDING' AND hint_at <= now()
  ORDER BY hint_at LIMIT %(ahead)s),
fair AS (
  SELECT trigger_id FROM (
    SELECT trigger_id, hint_at, row_number() OVER (PARTITION BY user_id ORDER BY hint_at) AS place FROM due) ranked
  WHERE place <= %(tenant)s ORDER BY hint_at LIMIT %(pass)s),
locked AS (
  SELECT trigger_id FROM runs WHERE trigger_id = ANY(ARRAY(SELECT trigger_id FROM fair))
    AND status = 'PENDING' AND hint_at <= now()
  ORDER BY trigger_id FOR UPDATE SKIP LOCKED)
UPDATE runs r SET hint_count = r.hint_count + 1,
  hint_at = now() + least(interval '30 seconds' * power(2, least(r.hint_count, 10)), interval '10 minutes')
FROM locked WHERE r.trigger_id = locked.trigger_id
RETURNING r.trigger_id, r.claim > 0
"""
_GIVE_BACK = "UPDATE runs SET hint_at = now(), hint_count = 0 WHERE trigger_id = ANY(%s::uuid[]) AND status = 'PENDING'"


class Due:
    """Sends hints for what is due.

    offer: hands ids to the own engine, without waiting for room; room: how many fit.
    """

    name = "due"

    def __init__(
        self,
        sender: HintSender,
        offer: Callable[[Sequence[UUID], float], bool],
        room: Callable[[], int],
        interval_seconds: float,
    ) -> None:
        self.interval_seconds = interval_seconds
        self._sender = sender
        self._offer = offer
        self._room = room

    def do(self, connection: OwnedConnection) -> int:
        hinted = 0
        for _ in range(MAX_PASSES):
            redis_answers = self._sender.answers()
            limit = MAX_PER_PASS if redis_answers else min(self._room(), MAX_PER_PASS)
            if limit == 0:
                break
            taken = self._take(connection, limit)
            hinted += len(taken)
            if taken:
                self._hand_on(connection, taken, redis_answers)
            if len(taken) < limit:
                break
        return hinted

    def _take(self, connection: OwnedConnection, limit: int) -> list[tuple[UUID, bool]]:
        with connection.transaction() as cursor:
            if not is_mine(cursor, self.name):
                return []
            cursor.execute(_TAKE, {"ahead": LOOK_AHEAD, "tenant": MAX_PER_TENANT, "pass": limit})
            return [(UUID(trigger_id), again) for trigger_id, again in cursor.fetchall()]

    def _hand_on(
        self, connection: OwnedConnection, taken: list[tuple[UUID, bool]], redis_answers: bool
    ) -> None:
        left: list[UUID] = []
        for lane, again in ((FRESH, False), (RETRY, True)):
            ids = [trigger_id for trigger_id, is_again in taken if is_again is again]
            for start in range(0, len(ids), MAX_HINT_IDS):
                hint = ids[start : start + MAX_HINT_IDS]
                if not (redis_answers and self._sender.send(lane, hint)):
                    left += hint
        if left and not self._offer(left, 0.0 if redis_answers else OFFER_SECONDS):
            with connection.transaction() as cursor:
                cursor.execute(_GIVE_BACK, (sorted(str(trigger_id) for trigger_id in left),))
