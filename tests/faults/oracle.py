"""What must be true after any fault, asked of PostgreSQL and of the receiver."""

from __future__ import annotations

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
_ATTEMPTS = "SELECT id::text, attempt FROM action_executions WHERE trigger_id = ANY(%s::uuid[])"


def everything_ended(running: Running, seconds: float) -> None:
    """Wait until no run is left."""
    eventually(lambda: running.query(_OPEN) == [(0,)], seconds, "the last run to settle")


def nothing_was_lost(
    running: Running, receiver: Receiver, accepted: list[str], seconds: float = 60.0
) -> None:
    """Every accepted trigger has ended SUCCESS and its receiver was called; the books agree."""
    everything_ended(running, seconds)
    assert running.query(_ACCEPTED, accepted) == [(len(accepted),)], "every accepted trigger ends SUCCESS"
    assert running.query(_NEITHER_OR_BOTH) == [(0,)], "a trigger has either a run or a log row"
    assert running.query(_UNSETTLED) == [(0,)]
    delivered = {receipt.trigger_id for receipt in receiver.receipts}
    assert set(accepted) <= delivered, "the receiver got every accepted trigger"
    attempts = dict(running.query(_ATTEMPTS, accepted))
    receipts: dict[str, int] = {}
    for receipt in receiver.receipts:
        receipts[receipt.webhook_id] = receipts.get(receipt.webhook_id, 0) + 1
    too_many = {
        key: (count, attempts[key]) for key, count in receipts.items() if count > attempts.get(key, count)
    }
    assert not too_many, f"more receipts than recorded attempts: {too_many}"


def wait_for(load_accepted: list[str], more: int, seconds: float = 30.0) -> None:
    """Wait until this many more triggers were accepted."""
    before = len(load_accepted)
    eventually(lambda: len(load_accepted) >= before + more, seconds, f"{more} more accepted triggers")
