"""Which actions run at the same time.

Invariant: a step is a maximal run of consecutive parallel actions, or one ordered action; actions
are ordered by `order`, then by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar


class Ordered(Protocol):
    """What has a place among the actions of a callback."""

    @property
    def id(self) -> Any: ...

    @property
    def order(self) -> int: ...

    @property
    def parallel(self) -> bool: ...


T = TypeVar("T", bound=Ordered)


def assign_steps(actions: Sequence[T]) -> list[tuple[T, int]]:
    """Put actions into their order and number their steps from 0."""
    ordered = sorted(actions, key=lambda action: (action.order, action.id))
    steps: list[tuple[T, int]] = []
    step, previous_parallel = -1, False
    for action in ordered:
        if not (action.parallel and previous_parallel):
            step += 1
        previous_parallel = action.parallel
        steps.append((action, step))
    return steps
