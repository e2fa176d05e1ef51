"""Runs and executions that go without an end, because their callback, action or user is deleted.

Each takes an id and how many rows at most. Runs are locked before executions, as everywhere.
"""

from __future__ import annotations

RUNS_OF_CALLBACK = """
DELETE FROM runs WHERE trigger_id = ANY(ARRAY(
  SELECT trigger_id FROM runs WHERE callback_id = %s ORDER BY trigger_id LIMIT %s FOR UPDATE))
"""
EXECUTIONS_OF_ACTION = """
WITH old AS MATERIALIZED (
  SELECT trigger_id, id FROM action_executions WHERE action_id = %s ORDER BY id LIMIT %s),
held AS MATERIALIZED (
  SELECT trigger_id FROM runs WHERE trigger_id IN (SELECT trigger_id FROM old) ORDER BY trigger_id FOR UPDATE),
locked AS MATERIALIZED (SELECT count(*) FROM held)
DELETE FROM action_executions x USING old, locked WHERE x.trigger_id = old.trigger_id AND x.id = old.id
"""
