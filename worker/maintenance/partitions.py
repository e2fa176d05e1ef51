"""Makes the partitions of the days to come, a week ahead."""

from __future__ import annotations

from shared.postgres.connections import OwnedConnection
from shared.postgres.partitions import ensure_partitions
from worker.maintenance.duty import is_mine


class Partitions:
    """Looks once an hour whether a day's partition is missing."""

    name = "partitions"

    def __init__(self, interval_seconds: float = 3600.0) -> None:
        self.interval_seconds = interval_seconds

    def do(self, connection: OwnedConnection) -> int:
        with connection.transaction() as cursor:
            return len(ensure_partitions(cursor)) if is_mine(cursor, self.name) else 0
