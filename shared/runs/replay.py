"""Replays: a settled trigger is recorded once more, as a new trigger that names the old one.

Invariant: nothing of the old trigger changes, and the new one is like any other: its run, its
executions and its steps are resumed from the rows by the code that resumes everything.

From «failed», what succeeded is copied with its response and not run again; the rest begins anew
under the steps that it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from shared.ids import execution_id, new_id
from shared.postgres.arrays import array

Start = Literal["failed", "start"]

_SETTLED = """
SELECT t.id FROM triggers t JOIN logs l ON l.id = t.id
WHERE t.id = ANY(%(ids)s::uuid[]) AND l.id = ANY(%(ids)s::uuid[]) AND t.user_id = %(user)s ORDER BY t.id
"""
_TRIGGERS = """
INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip, replay_of)
SELECT n.new_id, t.callback_id, t.user_id, t.method, t.path, t.query, t.headers, t.content_type, t.body, t.source_ip, t.id
FROM triggers t JOIN unnest(%(old)s::uuid[], %(new)s::uuid[]) AS n(old_id, new_id) ON n.old_id = t.id
WHERE t.id = ANY(%(old)s::uuid[]) RETURNING replay_of
"""
_OLD_EXECUTIONS = """
SELECT x.trigger_id, x.id, x.status = 'SUCCESS', x.action_id, a.id IS NOT NULL FROM action_executions x
LEFT JOIN actions a ON a.id = x.action_id AND a.deleted_at IS NULL
WHERE x.trigger_id = ANY(%s::uuid[]) ORDER BY x.trigger_id, x.step, x.id
"""
_EXECUTIONS = """
INSERT INTO action_executions (id, trigger_id, action_id, callback_id, user_id, type, step, status, attempt, response,
  duration_ms, history, started_at, finished_at)
SELECT n.new_id, n.new_trigger, x.action_id, x.callback_id, x.user_id, x.type, x.step,
  (CASE WHEN n.keep THEN 'SUCCESS' ELSE 'PENDING' END)::execution_status, CASE WHEN n.keep THEN x.attempt ELSE 0 END,
  CASE WHEN n.keep THEN x.response END, CASE WHEN n.keep THEN x.duration_ms END,
  CASE WHEN n.keep THEN x.history ELSE '[]' END, CASE WHEN n.keep THEN x.started_at END,
  CASE WHEN n.keep THEN x.finished_at END
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::bool[])
  AS n(old_trigger, old_id, new_trigger, new_id, keep)
JOIN action_executions x ON x.trigger_id = n.old_trigger AND x.id = n.old_id
WHERE x.trigger_id = ANY(%s::uuid[]) RETURNING trigger_id
"""
_TAKE_BACK = "DELETE FROM action_executions WHERE trigger_id = ANY(%s::uuid[])"
_RUNS = """
INSERT INTO runs (trigger_id, callback_id, user_id, hint_at)
SELECT id, callback_id, user_id, now() + make_interval(secs => %s) FROM triggers WHERE id = ANY(%s::uuid[])
"""


def replay(
    cursor: Any,
    user_id: UUID,
    trigger_ids: Sequence[UUID],
    start: Start,
    *,
    only_action: UUID | None = None,
    hint_in_seconds: float = 0.0,
) -> dict[UUID, UUID]:
    """Record these triggers of a user once more; the new ids by the old ones.

    Left out is what has not settled, is not kept, or has nothing that could run again, since all
    that failed belongs to deleted actions. (Without executions a new trigger is planned from the
    actions as they are; that is for those that never had any.)

    only_action: run this action alone, whatever became of it; what else succeeded is copied.
    hint_in_seconds: when the sweep looks at the new runs, for a caller that sends a hint itself.
    """
    cursor.execute(_SETTLED, {"ids": sorted(str(one) for one in trigger_ids), "user": str(user_id)})
    renewed = {row[0]: new_id() for row in cursor.fetchall()}
    copies: list[_Copy] = []
    if renewed and (start == "failed" or only_action is not None):
        copies, barren = _plan_copies(cursor, renewed, only_action)
        renewed = {old: new for old, new in renewed.items() if old not in barren}
    if not renewed:
        return {}
    whole = renewed.keys() - _insert_copies(cursor, [copy for copy in copies if copy.old_trigger in renewed])
    cursor.execute(_TRIGGERS, {"old": array(whole), "new": array(renewed[old] for old in whole)})
    made = {row[0]: renewed[row[0]] for row in cursor.fetchall()}
    if len(made) < len(renewed):  # retention has taken some meanwhile, or a part of them
        cursor.execute(_TAKE_BACK, (array(new for old, new in renewed.items() if old not in made),))
    cursor.execute(_RUNS, (hint_in_seconds, array(made.values())))
    return made


class _Copy(NamedTuple):
    """An execution of the new trigger. keep: it stays as it ended; otherwise it begins anew."""

    old_trigger: UUID
    old_id: UUID
    new_trigger: UUID
    new_id: UUID
    keep: bool


def _plan_copies(
    cursor: Any, renewed: dict[UUID, UUID], only_action: UUID | None
) -> tuple[list[_Copy], set[UUID]]:
    """The executions that the new triggers get, and the old triggers that leave nothing to run."""
    cursor.execute(_OLD_EXECUTIONS, ([str(one) for one in renewed],))
    copies: list[_Copy] = []
    seen, fertile = set[UUID](), set[UUID]()
    for position, (old_trigger, old_id, succeeded, action_id, has_action) in enumerate(cursor.fetchall()):
        seen.add(old_trigger)
        wanted = has_action and (action_id == only_action if only_action is not None else not succeeded)
        if wanted:
            fertile.add(old_trigger)
        if wanted or (succeeded and has_action):
            new_trigger = renewed[old_trigger]
            made = execution_id(new_trigger, position)
            copies.append(_Copy(old_trigger, old_id, new_trigger, made, keep=not wanted))
    return copies, seen - fertile


def _insert_copies(cursor: Any, copies: Sequence[_Copy]) -> set[UUID]:
    """Insert them; the old triggers of which something was not there any more."""
    if not copies:
        return set()
    columns = [array(column) for column in zip(*copies, strict=True)]
    cursor.execute(_EXECUTIONS, (*columns, columns[0]))
    missing = Counter(copy.new_trigger for copy in copies)
    missing.subtract(row[0] for row in cursor.fetchall())
    return {copy.old_trigger for copy in copies if missing[copy.new_trigger]}
