"""When a failed attempt is repeated. Pure.

The schedule lives in the rows (`next_attempt_at`, `due_at`), never in Celery. Jitter only lengthens
a delay, and what the receiver asks for in Retry-After is a floor. A status that the action's policy
calls permanent has no next attempt, whatever the receiver asks for. Attempts that were lost with
their worker or released by it use up nothing of the schedule: they say nothing about the receiver.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from shared.action_types.retry_policy import RetryPolicy, parse_retry
from worker.actions.contract import MAX_RETRY_AFTER_SECONDS, Outcome
from worker.records import ActionRecord

DEFAULT_SCHEDULE_SECONDS = (5.0, 30.0, 120.0, 600.0, 3_600.0, 10_800.0, 28_800.0)
JITTER = 0.2

# A connection that failed sooner is tried again at once.
IMMEDIATE_WITHIN_MS = 1_000


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts of one execution so far.

    made: those that ended by themselves; immediate: one came at once.
    """

    made: int
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt comes, after this delay.

    immediate: outside the schedule, see next_attempt().
    """

    delay_seconds: float
    immediate: bool = False


def next_attempt(
    action: ActionRecord,
    tries: Tries,
    outcome: Outcome,
    duration_ms: int,
    rand: Callable[[], float] = random.random,
) -> Again | None:
    """When the next attempt comes, None when there is none. Raises Invalid for a broken `retry`.

    One retry of an execution comes at once and takes no place of the schedule, which goes on behind
    it: the first one of a connection that failed quickly, before the receiver can have seen the
    request, or that of an attempt whose cause of failure is mended.
    """
    if outcome.success or not outcome.retryable:
        return None
    policy = parse_retry(action.retry)
    scheduled = tries.made - tries.immediate
    if scheduled >= policy.maxAttempts or outcome.status_code in policy.permanentStatuses:
        return None
    if _comes_at_once(tries, outcome, duration_ms):
        return Again(0.0, immediate=True)
    delay = _scheduled(policy, scheduled) * (1 + JITTER * rand())
    floor = min(outcome.retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
    return Again(max(delay, floor))


def _comes_at_once(tries: Tries, outcome: Outcome, duration_ms: int) -> bool:
    if tries.immediate:
        return False
    was_unsent = outcome.unsent and tries.made == 1 and duration_ms < IMMEDIATE_WITHIN_MS
    return was_unsent or outcome.mended


def _scheduled(policy: RetryPolicy, attempt: int) -> float:
    if policy.initialSeconds is not None:
        return min(policy.initialSeconds * policy.factor ** (attempt - 1), policy.capSeconds)
    schedule = policy.schedule or DEFAULT_SCHEDULE_SECONDS
    return schedule[min(attempt, len(schedule)) - 1]
