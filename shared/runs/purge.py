"""Runs, triggers and executions that go without an end, because their callback, action or user is
deleted.

Invariants:

- A trigger that has no end goes in one transaction with its run. One that has an end goes before
  its log row. So at each commit a trigger has a run or a log row.
- Runs are locked before executions, as everywhere.

Each function removes a bounded number of rows and returns how many. What is removed is named by
its ids, so that no partition is opened for writing but theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array

_RUNS = """
DELETE FROM runs WHERE trigger_id = ANY(ARRAY(
  SELECT trigger_id FROM runs WHERE callback_id = %s ORDER BY trigger_id LIMIT %s FOR UPDATE))
RETURNING trigger_id
"""
_ENDED = "SELECT id FROM {table} WHERE callback_id = %s ORDER BY id LIMIT %s"
_EXECUTIONS = "SELECT trigger_id, id FROM action_executions WHERE action_id = %s ORDER BY id LIMIT %s"
_LOCK = "SELECT trigger_id FROM runs WHERE trigger_id = ANY(%s::uuid[]) ORDER BY trigger_id FOR UPDATE"
_REMOVE = "DELETE FROM {table} WHERE id = ANY(%s::uuid[])"
_REMOVE_EXECUTIONS = """
DELETE FROM action_executions x USING unnest(%(triggers)s::uuid[], %(ids)s::uuid[]) AS old(trigger_id, id)
WHERE x.trigger_id = old.trigger_id AND x.id = old.id AND x.trigger_id = ANY(%(triggers)s::uuid[])
"""


def runs_of_callback(cursor: Any, callback_id: str, at_most: int) -> int:
    """Remove runs, each with its trigger."""
    cursor.execute(_RUNS, (callback_id, at_most))
    return _remove(cursor, "triggers", [row[0] for row in cursor.fetchall()])


def triggers_of_callback(cursor: Any, callback_id: str, at_most: int) -> int:
    """Remove triggers that have ended: when none of the callback's runs is left."""
    cursor.execute(_ENDED.format(table="triggers"), (callback_id, at_most))
    return _remove(cursor, "triggers", [row[0] for row in cursor.fetchall()])


def logs_of_callback(cursor: Any, callback_id: str, at_most: int) -> int:
    """Remove log rows: when none of the callback's triggers is left."""
    cursor.execute(_ENDED.format(table="logs"), (callback_id, at_most))
    return _remove(cursor, "logs", [row[0] for row in cursor.fetchall()])


def executions_of_action(cursor: Any, action_id: str, at_most: int) -> int:
    """Remove executions; their runs are held meanwhile."""
    cursor.execute(_EXECUTIONS, (action_id, at_most))
    found = cursor.fetchall()
    if found:
        triggers = array(trigger_id for trigger_id, _ in found)
        cursor.execute(_LOCK, (triggers,))
        cursor.execute(_REMOVE_EXECUTIONS, {"triggers": triggers, "ids": array(one for _, one in found)})
    return len(found)


def _remove(cursor: Any, table: str, ids: Sequence[UUID]) -> int:
    if ids:
        cursor.execute(_REMOVE.format(table=table), (array(ids),))
    return len(ids)
