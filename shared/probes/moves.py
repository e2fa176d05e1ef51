"""Every statement that moves a probe, but the one that records it (api/resources/probes.py).

Invariants:

- A probe is claimed once. What was claimed and may have been sent is never sent again.
- Its result counts only while it is RUNNING by the worker that claimed it.
- Once it is DONE its request is gone, and it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from shared.postgres.arrays import array

# Whoever asked has gone by then. It is not sent behind his back.
UNCLAIMED_SECONDS = 300.0

WORKER_LOST = "worker_lost"
NO_WORKER = "no_worker"

_CLAIM = """
UPDATE probes p SET state = 'RUNNING', worker_id = %(worker)s, claimed_at = now() FROM (
  SELECT id FROM probes WHERE state = 'PENDING' AND created_at > now() - make_interval(secs => %(latest)s)
  ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) waiting
WHERE p.id = waiting.id RETURNING p.id, p.user_id, p.request
"""
_GIVE_BACK = """
UPDATE probes SET state = 'PENDING', worker_id = NULL, claimed_at = NULL
WHERE state = 'RUNNING' AND worker_id = %s AND id <> ALL(%s::uuid[])
"""
_END = """
UPDATE probes SET state = 'DONE', result = %s, request = NULL, finished_at = now()
WHERE id = %s AND worker_id = %s AND state = 'RUNNING'
"""
_END_LOST = """
UPDATE probes p SET state = 'DONE', failure = %s, request = NULL, finished_at = now()
WHERE state = 'RUNNING' AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = p.worker_id) RETURNING id
"""
_END_UNCLAIMED = """
UPDATE probes SET state = 'DONE', failure = %s, request = NULL, finished_at = now()
WHERE state = 'PENDING' AND created_at <= now() - make_interval(secs => %s) RETURNING id
"""
_IS_OPEN = """
SELECT EXISTS (SELECT 1 FROM probes
WHERE state <> 'DONE' AND created_at <= now() - make_interval(secs => %s))
"""


class ClaimedProbe(NamedTuple):
    """A probe that this worker alone has now. request: sealed."""

    id: UUID
    user_id: UUID
    request: str


def claim(cursor: Any, worker_id: UUID, at_most: int) -> list[ClaimedProbe]:
    """Take so many of those that wait, the oldest first."""
    cursor.execute(_CLAIM, {"worker": str(worker_id), "limit": at_most, "latest": UNCLAIMED_SECONDS})
    return [ClaimedProbe(*row) for row in cursor.fetchall()]


def give_back(cursor: Any, worker_id: UUID, known: Iterable[UUID]) -> int:
    """Let those wait again that PostgreSQL says this worker has, and of which it knows nothing: the
    answer to their claim was lost, and so nothing of them was sent.
    """
    cursor.execute(_GIVE_BACK, (str(worker_id), array(known)))
    return int(cursor.rowcount)


def end(cursor: Any, probe_id: UUID, worker_id: UUID, result: str) -> bool:
    """Write how it ended, sealed. False: it is no longer this worker's."""
    cursor.execute(_END, (result, str(probe_id), str(worker_id)))
    return bool(cursor.rowcount)


def end_lost(cursor: Any) -> list[UUID]:
    """End those whose worker has died."""
    cursor.execute(_END_LOST, (WORKER_LOST,))
    return [row[0] for row in cursor.fetchall()]


def end_unclaimed(cursor: Any) -> list[UUID]:
    """End those that nobody has claimed for too long."""
    cursor.execute(_END_UNCLAIMED, (NO_WORKER, UNCLAIMED_SECONDS))
    return [row[0] for row in cursor.fetchall()]


def is_open(cursor: Any, seconds: float) -> bool:
    """Whether any has not ended for so long."""
    cursor.execute(_IS_OPEN, (seconds,))
    return bool(cursor.fetchone()[0])
