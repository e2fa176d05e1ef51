"""Whether the caller of one request still waits, decided once.

A view runs in a thread that nobody can stop, while the shell tells its caller 503 when the time is
over. So both ask here: either the caller was told that nothing was accepted, and nothing is
committed any more; or a commit has begun, and the caller waits for its end. Never both.
"""

from __future__ import annotations

import threading

from shared.errors import OutcomeUnknown, Unavailable


class Patience:
    """Of one request. Shared by its thread and the event loop."""

    __slots__ = ("_is_held", "_is_out", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_out = False
        self._is_held = False

    def run_out(self) -> bool:
        """The time is over.

        True: nothing will be committed. False: a commit is under way, wait for its end.
        """
        with self._lock:
            self._is_out = not self._is_held
            return self._is_out

    def hold(self) -> None:
        """A commit begins, and the caller waits for it; raises Unavailable if it was told 503
        already.
        """
        with self._lock:
            if self._is_out:
                raise Unavailable("The request could not be handled in time.")
            self._is_held = True


def outcome_unknown(why: str) -> Unavailable:
    """The error for a call whose commit may or may not have happened."""
    error = OutcomeUnknown(
        f"{why}: it is not known whether the change was made.",
        hint="Look whether it was made. A POST that bore an Idempotency-Key can be sent again with it.",
    )
    error.retry_after_seconds = None  # it would tell clients to repeat by themselves what may have been done
    return error
