"""When credentials were last used, as far as this worker knows.

Invariants:

- No attempt waits for it: note() keeps an id in memory, and the heartbeat's thread writes.
- A credential is written at most once in EVERY_SECONDS by one worker. What is not written, since
  its row is held or this worker ends, is of no harm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from shared.postgres.arrays import array

EVERY_SECONDS = 60.0

# Of one statement; the rest follows with the next heartbeat.
MAX_WRITTEN = 1_000

# In the order of their ids, past those that somebody holds: nobody waits for anybody.
_WRITE = """
UPDATE service_credentials s SET last_used_at = now() FROM (
  SELECT id FROM service_credentials WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) used
WHERE s.id = used.id
"""


class CredentialUses:
    """Noted by the loop, written by another thread. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: set[UUID] = set()
        self._written_at: dict[UUID, float] = {}

    def note(self, credential_id: UUID) -> None:
        """An attempt uses it."""
        if credential_id not in self._noted:
            with self._lock:
                self._noted.add(credential_id)

    def due(self) -> list[UUID]:
        """Those that are to be written now. They count as written."""
        now = self._clock()
        self._written_at = {one: at for one, at in self._written_at.items() if now - at < EVERY_SECONDS}
        with self._lock:
            found = sorted(one for one in self._noted if one not in self._written_at)[:MAX_WRITTEN]
            self._noted.difference_update(found)
        self._written_at.update(dict.fromkeys(found, now))
        return found


def write(cursor: Any, credential_ids: Sequence[UUID]) -> None:
    """Write that these are used now."""
    cursor.execute(_WRITE, (array(credential_ids),))
