"""Calls that have come round: refused, and noted for the callback's owner.

Invariants:

- Nothing waits for the note, and a note that cannot be made refuses nothing else.
- A callback gets one note in NOTE_SECONDS, however many calls come round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Engine, insert

from api.ingress.resolve import Snapshot
from api.threads import Threads
from shared import via
from shared.errors import Loop
from shared.ids import new_id
from shared.models import Log

NOTE_SECONDS = 60.0
MAX_REMEMBERED = 1_000

LOOP_EVENT = "trigger.loop"

log = structlog.get_logger("ingress")


class Loops:
    """Refuses what has come round. Used by the event loop alone; notes are written in `threads`."""

    def __init__(
        self, database: Engine, threads: Threads, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._threads = threads
        self._monotonic = monotonic
        self._noted: dict[Any, float] = {}

    def refuse(self, value: str | None, callback: Snapshot) -> None:
        """Raise Loop for a call that has come through this callback, or through too many.

        value: its header `pointsman-via`.
        """
        if value is None or not via.is_loop(value, callback.callback_id):
            return
        self._note(value, callback)
        raise Loop("This call has come through this callback before, or through too many others.")

    def _note(self, value: str, callback: Snapshot) -> None:
        now = self._monotonic()
        if now - self._noted.get(callback.callback_id, float("-inf")) < NOTE_SECONDS:
            return
        if len(self._noted) >= MAX_REMEMBERED:
            self._noted.clear()
        self._noted[callback.callback_id] = now
        try:
            self._threads.submit(self._write, callback, len(value.split(",")))
        except Exception as error:  # noqa: BLE001 - the call is refused all the same
            log.warning("loop_not_noted", callback=str(callback.callback_id), error=type(error).__name__)

    def _write(self, callback: Snapshot, callbacks: int) -> None:
        row = {
            "id": new_id(),
            "event": LOOP_EVENT,
            "callback_id": callback.callback_id,
            "user_id": callback.user_id,
            "status_code": Loop.status,
            "success": False,
            "details": {"reason": "loop", "callbacks": callbacks},
        }
        try:
            with self._database.begin() as connection:
                connection.execute(insert(Log).values(row))
        except Exception as error:  # noqa: BLE001 - in a thread: there is nobody to tell
            log.warning("loop_not_noted", callback=str(callback.callback_id), error=type(error).__name__)
