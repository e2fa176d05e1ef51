"""When a failed attempt is repeated. Pure.

The schedule lives in the rows (`next_attempt_at`, `due_at`), never in Celery. Jitter only lengthens a
delay, and what the receiver asks for in Retry-After is a floor.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from shared.retry_policy import RetryPolicy, parse_retry
from worker.actions.contract import Action, Outcome

DEFAULT_SCHEDULE_SECONDS = (5.0, 30.0, 120.0, 600.0, 3_600.0, 10_800.0, 28_800.0)
JITTER = 0.2
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0


def delay_before_next(
    action: Action, attempt: int, outcome: Outcome, rand: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the attempt after `attempt` (counted from 1), or None when there is none."""
    if outcome.success or not outcome.retryable:
        return None
    policy = parse_retry(action.retry)
    if attempt >= policy.maxAttempts:
        return None
    delay = _scheduled(policy, attempt) * (1 + JITTER * rand())
    floor = min(outcome.retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
    return max(delay, floor)


def _scheduled(policy: RetryPolicy, attempt: int) -> float:
    if policy.initialSeconds is not None:
        return min(policy.initialSeconds * policy.factor ** (attempt - 1), policy.capSeconds)
    schedule = policy.schedule or DEFAULT_SCHEDULE_SECONDS
    return schedule[min(attempt, len(schedule)) - 1]
