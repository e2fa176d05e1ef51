"""Reminders: which PENDING runs are hinted again, and when next.

Invariant: hinting moves `hint_at` and never `due_at`, so that a hint finds what it names claimable.

What was hinted before and never claimed may be taken before its time: when it was held back because
its lane was long, and the lane is short now. That is possible once a thirtieth of its wait is over.
So it comes after a second at first, and rarer each time: it may wait in a worker's memory already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array

# Nothing has been due for longer: a hundred years.
ALL_SECONDS = 100 * 365 * 86_400.0

# So soon is what was hinted once taken early. It is the same share of each longer wait.
EARLY_SECONDS = 1

_WAIT = "least(interval '30 seconds' * power(2, least({hint_count}, 10)), interval '10 minutes')"

# Due, or hinted a while ago and never claimed: the last hint moved `hint_at` by what it waits.
_TIMELY = f"""(hint_at <= now() OR %(early)s AND claim = 0 AND hint_count > 0 AND hint_at < now() + interval '10 minutes'
    AND hint_at - {_WAIT.format(hint_count="hint_count - 1")} * (1 - {EARLY_SECONDS} / 30.0) <= now())"""
_TAKE_DUE = f"""
WITH due AS (
  SELECT trigger_id, user_id, hint_at FROM runs
  WHERE status = 'PENDING' AND {_TIMELY} AND user_id <> ALL(%(served)s::uuid[]) AND hint_at >= now() - make_interval(secs => %(back)s)
  ORDER BY hint_at LIMIT %(ahead)s),
fair AS (
  SELECT trigger_id FROM (
    SELECT trigger_id, hint_at, row_number() OVER (PARTITION BY user_id ORDER BY hint_at) AS place FROM due) ranked
  WHERE place <= %(tenant)s ORDER BY hint_at LIMIT %(pass)s),
locked AS (
  SELECT trigger_id FROM runs WHERE trigger_id = ANY(ARRAY(SELECT trigger_id FROM fair))
    AND status = 'PENDING' AND {_TIMELY}
  ORDER BY trigger_id FOR UPDATE SKIP LOCKED)
UPDATE runs r SET hint_count = r.hint_count + 1, hint_at = now() + {_WAIT.format(hint_count="r.hint_count")}
FROM locked WHERE r.trigger_id = locked.trigger_id
RETURNING r.trigger_id, r.user_id, r.claim > 0, r.hint_count > 1
"""  # noqa: S608 - fixed texts
_LEAVE_DUE = """
WITH locked AS (
  SELECT trigger_id FROM runs WHERE trigger_id = ANY(%s::uuid[]) AND status = 'PENDING'
  ORDER BY trigger_id FOR UPDATE SKIP LOCKED)
UPDATE runs r SET hint_at = now(), hint_count = 0 FROM locked WHERE r.trigger_id = locked.trigger_id
"""


def take_due(
    cursor: Any,
    *,
    look_ahead: int,
    of_each_user: int,
    at_most: int,
    but_of: Collection[UUID],
    back_seconds: float = ALL_SECONDS,
    early: bool = False,
) -> list[tuple[Any, ...]]:
    """Note that what is due is being hinted.

    Returns of each: trigger, user, whether it was claimed before, whether it was hinted before.

    look_ahead: how many due runs are looked at to find each user's share. but_of: users who have
    had theirs: the look goes past all that is due of theirs. back_seconds: what has been due for
    longer is left out, and costs nothing. early: also what was hinted a while ago, and never
    claimed.
    """
    bounds = {
        "ahead": look_ahead,
        "tenant": of_each_user,
        "pass": at_most,
        "early": early,
        "back": back_seconds,
    }
    cursor.execute(_TAKE_DUE, {**bounds, "served": array(but_of)})
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def leave_due(cursor: Any, ids: Iterable[UUID]) -> None:
    """Their hint found no taker: they are due as before."""
    cursor.execute(_LEAVE_DUE, (array(sorted(ids)),))
