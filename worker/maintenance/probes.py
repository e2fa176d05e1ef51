"""Ends probes that nobody will end, and has this worker look for those that wait.

Invariants:

- Without Redis a probe is found all the same, a pass after it was made. So is one whose claim was
  committed and never answered: its worker looks as long as any is open, and gives it back.
- One whose worker has died is never tried again: it may have been sent.
- One that nobody has claimed for minutes is not sent any more: whoever asked has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from shared.postgres.connections import OwnedConnection
from shared.probes import moves

log = structlog.get_logger("maintenance")


class Probes:
    """Looks at open probes, of which there are few.

    look: has the own worker claim what waits, and give back what it does not know. tell: says that
    one has ended.
    """

    name = "probes"

    def __init__(
        self,
        interval_seconds: float,
        look: Callable[[], None] = lambda: None,
        tell: Callable[[UUID], None] = lambda _id: None,
    ) -> None:
        self.interval_seconds = interval_seconds
        self._look = look
        self._tell = tell

    def do(self, connection: OwnedConnection) -> int:
        with connection.transaction() as cursor:
            ended = moves.end_lost(cursor) + moves.end_unclaimed(cursor)
            is_open = moves.is_open(cursor, self.interval_seconds)
        for probe_id in ended:
            log.info("probe_given_up", probe=str(probe_id))
            self._tell(probe_id)
        if is_open:
            self._look()
        return len(ended)
