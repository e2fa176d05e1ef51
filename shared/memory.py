"""Freed memory, given back to the system.

glibc keeps what is freed in the middle of its heap. So a worker stayed as large as its largest
burst of answers had made it: 85 MiB beyond before.
"""

from __future__ import annotations

import ctypes
import threading
import time

# A call takes 0.1 ms if there is nothing to give, and some 0.1 ms for each MiB that there is.
EVERY_SECONDS = 5.0


def give_back() -> None:
    """Give the system what is free; nothing happens where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def give_back_now_and_then() -> None:
    """Do so as long as this process lives."""
    threading.Thread(target=_run, name="memory", daemon=True).start()


def _run() -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        give_back()
