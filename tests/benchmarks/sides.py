"""What is compared. A side is Pointsman (pointsman.py) or a bare pipeline (pipeline.py).

Each side has URLs to post to (`nginx` for throughput, `sink` for latency), groups of processes
whose cost is read, waits until everything that it accepted was executed, and leaves nothing behind
that works on in the other's turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tests.benchmarks.nginx import Nginx
from tests.benchmarks.processes import Group

# After a minute of load a bare pipeline has another minute's work before it.
DRAIN_SECONDS = 300.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Drained:
    """executed: triggers that have ended.

    ended: when the last was seen to end, in monotonic seconds.
    """

    executed: int
    ended: float


class Side(Protocol):
    """A running system that accepts triggers and delivers them."""

    @property
    def name(self) -> str: ...

    @property
    def urls(self) -> Mapping[str, str]:
        """Where to post, by the name of what it is delivered to."""

    def groups(self) -> dict[str, Group]:
        """Its processes, by rounds.GROUPS."""

    def drain(self, accepted: int, nginx: Nginx, before: int, deliveries: int = 1) -> Drained:
        """Wait until everything accepted has ended. before: nginx's count before the burst."""

    def tidy(self) -> None:
        """Do now what its PostgreSQL would do later, in the other side's turn."""
