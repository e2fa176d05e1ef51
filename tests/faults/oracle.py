"""What must be true after any fault, asked of PostgreSQL, of the receiver and of whoever called."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import psycopg2

from tests.peers.receiver import Receipt, Receiver
from tests.running import Running, eventually
from tests.sent import Sent

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
_NOT_STORED = """
SELECT count(*) FROM action_executions x WHERE x.trigger_id = ANY(%s::uuid[]) AND x.type = 'STORE'
  AND x.status = 'SUCCESS' AND NOT EXISTS (
    SELECT 1 FROM stored_items s WHERE s.trigger_id = x.trigger_id AND s.action_id = x.action_id)
"""
_RECORDED = "SELECT id::text, path, body, content_type FROM triggers WHERE id = ANY(%s::uuid[])"
_EXECUTIONS = """
SELECT id::text, trigger_id::text, step, attempt FROM action_executions
WHERE trigger_id = ANY(%s::uuid[]) AND type = 'HTTP_POST' AND status = 'SUCCESS'
"""

# What a receiver gets for a body whose type its caller did not name.
UNNAMED = "application/octet-stream"
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
    running: Running, receiver: Receiver, accepted: Collection[str], seconds: float = 60.0
) -> None:
    """Every accepted trigger has ended SUCCESS and its receiver was called with what was sent; the
    books agree.

    accepted: the ids of triggers that were fired, or of a load what was sent, by the id.
    """
    everything_ended(running, seconds)
    ids = list(accepted)
    assert running.query(_ACCEPTED, ids) == [(len(ids),)], "every accepted trigger ends SUCCESS"
    assert running.query(_NEITHER_OR_BOTH) == [(0,)], "a trigger has either a run or a log row"
    assert running.query(_UNSETTLED) == [(0,)]
    receipts = Counter(receipt.webhook_id for receipt in receiver.receipts)
    called = {receipt.trigger_id for receipt in receiver.receipts}
    assert set(ids) <= called, "no trigger ends without a call to its receiver"
    assert running.query(_NOT_STORED, ids) == [(0,)], "each STORE that succeeded has its item"
    attempts = dict(running.query(_ATTEMPTS, list(receipts)))
    too_many = {key: count for key, count in receipts.items() if count > attempts.get(key, 0)}
    assert not too_many, f"more receipts than recorded attempts: {too_many}"
    numbered = Counter((r.webhook_id, r.attempt) for r in receiver.receipts)
    assert set(numbered.values()) <= {1}, "no attempt was sent twice under one number"
    known = {**running.sent, **(accepted if isinstance(accepted, Mapping) else {})}
    rows = running.query(_RECORDED, list(called | set(ids)))
    recorded = {row[0]: Sent(row[1], bytes(row[2]), row[3]) for row in rows}
    assert {one: recorded[one] for one in ids} == {one: known[one] for one in ids}, "recorded as it was sent"
    assert misdelivered(receiver.receipts, recorded | known, running.calls)[:5] == []
    executions = [Execution(*row) for row in running.query(_EXECUTIONS, ids)]
    succeeded = {(execution.id, execution.attempt) for execution in executions}
    assert succeeded <= numbered.keys(), "each attempt that succeeded was received"
    assert overtaken(receiver.receipts, executions)[:5] == []


def misdelivered(
    receipts: Sequence[Receipt], sent: Mapping[str, Sent], calls: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """What is wrong with receipts: each must bear what was sent for its trigger, and have come
    where its action, which is one of that callback's, was to call.

    sent: by trigger. calls: as Running.calls.
    """
    found = []
    for receipt in receipts:
        came, one = f"trigger {receipt.trigger_id} at {receipt.path}", sent.get(receipt.trigger_id)
        if one is None:
            found.append(f"{came}: nobody sent it")
            continue
        if receipt.body != one.body:
            found.append(f"{came}: {receipt.body[:80]!r} instead of {one.body[:80]!r}")
        if receipt.headers["content-type"] != (one.content_type or UNNAMED):
            found.append(f"{came}: {receipt.headers['content-type']} instead of {one.content_type}")
        if calls[one.path].get(receipt.action_id) != receipt.path:
            found.append(f"{came}: not where action {receipt.action_id} of {one.path} was to call")
    return found


class Execution(NamedTuple):
    """An execution that succeeded over HTTP. attempt: the last one's number."""

    id: str
    trigger_id: str
    step: int
    attempt: int


def overtaken(receipts: Sequence[Receipt], executions: Sequence[Execution]) -> list[str]:
    """Steps of which a call came before the one before them had its last answers, by the receiver's
    own clock.
    """
    steps: defaultdict[str, dict[str, Execution]] = defaultdict(dict)
    for execution in executions:
        steps[execution.trigger_id][execution.id] = execution
    answered: defaultdict[tuple[str, int], float] = defaultdict(float)
    for receipt in receipts:
        one = steps[receipt.trigger_id].get(receipt.webhook_id)
        if one is not None and receipt.attempt == one.attempt:
            ended_at = float("inf") if receipt.answered_at is None else receipt.answered_at
            answered[one.trigger_id, one.step] = max(answered[one.trigger_id, one.step], ended_at)
    return [
        f"trigger {receipt.trigger_id}: a call of step {one.step} came before step {step} had ended"
        for receipt in receipts
        if (one := steps[receipt.trigger_id].get(receipt.webhook_id)) is not None
        for step in {earlier.step for earlier in steps[receipt.trigger_id].values()}
        if step < one.step and receipt.at < answered[receipt.trigger_id, step]
    ]


def nobody_was_lost_with_a_worker(running: Running, accepted: Collection[str]) -> None:
    """No attempt has ended as worker_lost."""
    lost = running.query(
        "SELECT count(*) FROM action_executions WHERE trigger_id = ANY(%s::uuid[])"
        ' AND history @> \'[{"outcome": "worker_lost"}]\'',
        list(accepted),
    )
    assert lost == [(0,)]


def wait_for(load_accepted: Collection[str], more: int, seconds: float = 30.0) -> None:
    """Wait until this many more triggers were accepted."""
    before = len(load_accepted)
    eventually(lambda: len(load_accepted) >= before + more, seconds, f"{more} more accepted triggers")
