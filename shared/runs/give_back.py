"""Runs go from RUNNING back to PENDING.

They are parked for a retry, released by their worker, or taken from one that has died.

Invariants:

- Whoever gives a run back holds its row: by the fence (park, release), or by asking for this
  worker's RUNNING rows in the order of their ids.
- Runs are locked before executions.
- An attempt under way keeps its number and stands in the history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array

_PARK = """
UPDATE runs r SET status = 'PENDING', worker_id = NULL, hint_count = 0, losses = 0, losses_alone = 0,
  due_at = now() + make_interval(secs => p.delay), hint_at = now() + make_interval(secs => p.delay)
FROM unnest(%(ids)s::uuid[], %(delays)s::float8[]) AS p(trigger_id, delay)
WHERE r.trigger_id = p.trigger_id AND r.trigger_id = ANY(%(ids)s::uuid[])
"""
_RELEASE = """
UPDATE runs SET status = 'PENDING', worker_id = NULL, hint_at = now(), hint_count = 0
WHERE trigger_id = ANY(%s::uuid[]) AND status = 'RUNNING'
"""
_REOPEN = """
UPDATE action_executions SET status = 'PENDING', next_attempt_at = NULL, updated_at = now(),
  history = history || (%s::jsonb || jsonb_build_object('attempt', attempt, 'startedAt', started_at))
WHERE trigger_id = ANY(%s::uuid[]) AND status = 'RUNNING'
"""
_HELD_BY = "SELECT trigger_id, claim FROM runs WHERE worker_id = %s AND status = 'RUNNING'"
_HELD_IN_PORTION = """
WITH portion AS MATERIALIZED (
  SELECT trigger_id, claim, (worker_id = %s AND status = 'RUNNING') IS TRUE AS mine FROM runs
  WHERE trigger_id > %s ORDER BY trigger_id LIMIT %s)
SELECT trigger_id, claim, mine, (SELECT count(*) FROM portion) FROM portion
WHERE mine OR trigger_id = (SELECT trigger_id FROM portion ORDER BY trigger_id DESC LIMIT 1) ORDER BY trigger_id
"""
_RELEASE_STRANDED = """
WITH mine AS (
  SELECT trigger_id FROM runs WHERE trigger_id = ANY(%(ids)s::uuid[]) AND worker_id = %(worker)s AND status = 'RUNNING'
    AND (trigger_id, claim) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(claims)s::int[]))
  ORDER BY trigger_id FOR UPDATE SKIP LOCKED)
UPDATE runs r SET status = 'PENDING', worker_id = NULL, hint_at = now(), hint_count = 0
FROM mine WHERE r.trigger_id = mine.trigger_id RETURNING r.trigger_id
"""
_VOID = """
WITH lost AS (
  SELECT trigger_id FROM runs WHERE worker_id = %(worker)s AND status = 'RUNNING' ORDER BY trigger_id FOR UPDATE),
void AS (
  UPDATE runs r SET status = 'PENDING', worker_id = NULL, claim = r.claim + 1, losses = r.losses + 1,
    losses_alone = r.losses_alone + ((SELECT count(*) FROM lost) = 1)::int, hint_at = now(), hint_count = 0
  FROM lost WHERE r.trigger_id = lost.trigger_id RETURNING r.trigger_id)
SELECT array_agg(trigger_id::text ORDER BY trigger_id) FROM void
"""


def park(cursor: Any, delays: Mapping[UUID, float]) -> None:
    """Let runs whose rows are held wait for a retry, each for so many seconds."""
    cursor.execute(_PARK, {"ids": array(delays), "delays": array(delays.values())})


def release(cursor: Any, ids: Sequence[UUID], outcome: str) -> None:
    """Give runs back whose rows are held.

    outcome: what the history of their attempts under way says.
    """
    cursor.execute(_RELEASE, (array(ids),))
    reopen(cursor, ids, {"outcome": outcome})


def held_by(cursor: Any, worker_id: UUID) -> set[tuple[UUID, int]]:
    """The runs that PostgreSQL says a worker has, each with its claim. It reads all of `runs`."""
    cursor.execute(_HELD_BY, (str(worker_id),))
    return set(cursor.fetchall())


def held_in_portion(
    cursor: Any, worker_id: UUID, after: UUID, rows: int
) -> tuple[set[tuple[UUID, int]], UUID | None]:
    """The same of so many runs behind an id, and the last of their ids; None at the end of all."""
    cursor.execute(_HELD_IN_PORTION, (str(worker_id), str(after), rows))
    found = cursor.fetchall()
    last = found[-1][0] if found and found[-1][3] == rows else None
    return {(trigger_id, claim) for trigger_id, claim, mine, _ in found if mine}, last


def release_stranded(cursor: Any, worker_id: UUID, held: Sequence[tuple[UUID, int]]) -> int:
    """Give back runs of a worker that its memory does not know; how many those were.

    held: the runs, each with the claim under which it must still stand. What is locked is left.
    """
    ids, claims = array(one for one, _ in held), array(claim for _, claim in held)
    cursor.execute(_RELEASE_STRANDED, {"worker": str(worker_id), "ids": ids, "claims": claims})
    released = [row[0] for row in cursor.fetchall()]
    reopen(cursor, released, {"outcome": "released"})
    return len(released)


def void(cursor: Any, worker_id: str) -> list[str]:
    """Take all runs from a worker that has died, and name them. Each counts the loss."""
    cursor.execute(_VOID, {"worker": worker_id})
    lost: list[str] = cursor.fetchone()[0] or []
    return lost


def reopen(cursor: Any, ids: Sequence[UUID | str], note: Mapping[str, str]) -> None:
    """Let the executions of these runs that are RUNNING be PENDING.

    note: what their history says of the attempt.
    """
    if ids:
        cursor.execute(_REOPEN, (json.dumps(dict(note)), array(ids)))
