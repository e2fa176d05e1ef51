"""What every maintenance duty has in common."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from shared.postgres.connections import OwnedConnection

# «PM» keeps our advisory locks apart from those of other programs in the database.
_LOCK_SPACE = 0x504D


class Duty(Protocol):
    """One kind of repair. do() makes one pass and returns how many things it repaired."""

    name: str
    interval_seconds: float

    def do(self, connection: OwnedConnection) -> int: ...


def is_mine(cursor: Any, name: str) -> bool:
    """Take a duty's lock until the end of the transaction; False when another process has it."""
    cursor.execute(
        "SELECT pg_try_advisory_xact_lock(%s, %s)", (_LOCK_SPACE, zlib.crc32(name.encode()) & 0x7FFFFFFF)
    )
    return bool(cursor.fetchone()[0])
