"""What must be true after any fault, asked of PostgreSQL and of the receiver."""

from __future__ import annotations

from collections import Counter

import psycopg2

from tests.peers.receiver import Receiver
from tests.running import Running, eventually

_OPEN = "SELECT count(*) FROM runs"
_NEITHER_OR_BOTH = """
SELECT count(*) FROM triggers t LEFT JOIN runs r ON r.trigger_id = t.id LEFT JOIN logs l ON l.id = t.id
WHERE (r.trigger_id IS NULL) = (l.id IS NULL)
"""
_UNSETTLED = "SELECT count(*) FROM action_executions WHERE status NOT IN ('SUCCESS', 'FAILED')"
_ACCEPTED = """
SELECT count(*) FROM logs l WHERE l.id = ANY(%s::uuid[]) AND l.success
"""
_ATTEMPTS = "SELECT id::text, attempt FROM action_executions WHERE id = ANY(%s::uuid[])"
_NOT_DELIVERED = """
SELECT count(*) FROM action_executions WHERE trigger_id = ANY(%s::uuid[]) AND type = 'HTTP_POST'
  AND status = 'SUCCESS' AND NOT id::text = ANY(%s::text[])
"""
_NOT_STORED = """
SELECT count(*) FROM action_executions x WHERE x.trigger_id = ANY(%s::uuid[]) AND x.type = 'STORE'
  AND x.status = 'SUCCESS' AND NOT EXISTS (
    SELECT 1 FROM stored_items s WHERE s.trigger_id = x.trigger_id AND s.action_id = x.action_id)
"""
_OVERTAKEN = """
SELECT count(*) FROM action_executions later JOIN action_executions earlier USING (trigger_id)
WHERE earlier.step < later.step AND later.attempt > 0 AND earlier.finished_at >
  coalesce((later.history->0->>'startedAt')::timestamptz, later.started_at)
"""
_WATCH = """
CREATE TABLE regressions (id uuid, was text, became text);
CREATE FUNCTION note_regression() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO regressions VALUES (OLD.id, OLD.status::text, NEW.status::text); RETURN NEW; END $$;
CREATE TRIGGER watch AFTER UPDATE ON action_executions FOR EACH ROW
  WHEN (OLD.status IN ('SUCCESS', 'FAILED')) EXECUTE FUNCTION note_regression();
"""


def watch_terminal_states(running: Running) -> None:
    """From now on PostgreSQL itself notes every change of an execution that was SUCCESS or
    FAILED.
    """
    running.query(_WATCH + "SELECT 1")


def no_terminal_state_was_left(running: Running) -> None:
    """What watch_terminal_states() has noted: nothing."""
    assert running.query("SELECT * FROM regressions LIMIT 5") == []


def everything_ended(running: Running, seconds: float) -> None:
    """Wait until no run is left, on a PostgreSQL that may still be starting."""

    def is_empty() -> bool:
        try:
            return running.query(_OPEN) == [(0,)]
        except psycopg2.OperationalError:
            return False

    eventually(is_empty, seconds, "the last run to settle")


def nothing_was_lost(
    running: Running, receiver: Receiver, accepted: list[str], seconds: float = 60.0
) -> None:
    """Every accepted trigger has ended SUCCESS and its receiver was called; the books agree."""
    everything_ended(running, seconds)
    assert running.query(_ACCEPTED, accepted) == [(len(accepted),)], "every accepted trigger ends SUCCESS"
    assert running.query(_NEITHER_OR_BOTH) == [(0,)], "a trigger has either a run or a log row"
    assert running.query(_UNSETTLED) == [(0,)]
    assert running.query(_OVERTAKEN) == [(0,)], "no step begins before the one before it has ended"
    receipts = Counter(receipt.webhook_id for receipt in receiver.receipts)
    assert running.query(_NOT_DELIVERED, accepted, list(receipts)) == [(0,)], "each success was received"
    called = {receipt.trigger_id for receipt in receiver.receipts}
    assert set(accepted) <= called, "no trigger ends without a call to its receiver"
    assert running.query(_NOT_STORED, accepted) == [(0,)], "each STORE that succeeded has its item"
    attempts = dict(running.query(_ATTEMPTS, list(receipts)))
    too_many = {key: count for key, count in receipts.items() if count > attempts.get(key, 0)}
    assert not too_many, f"more receipts than recorded attempts: {too_many}"
    numbered = Counter((r.webhook_id, r.headers["pointsman-attempt"]) for r in receiver.receipts)
    assert set(numbered.values()) <= {1}, "no attempt was sent twice under one number"


def nobody_was_lost_with_a_worker(running: Running, accepted: list[str]) -> None:
    """No attempt has ended as worker_lost."""
    lost = running.query(
        "SELECT count(*) FROM action_executions WHERE trigger_id = ANY(%s::uuid[])"
        ' AND history @> \'[{"outcome": "worker_lost"}]\'',
        accepted,
    )
    assert lost == [(0,)]


def wait_for(load_accepted: list[str], more: int, seconds: float = 30.0) -> None:
    """Wait until this many more triggers were accepted."""
    before = len(load_accepted)
    eventually(lambda: len(load_accepted) >= before + more, seconds, f"{more} more accepted triggers")
