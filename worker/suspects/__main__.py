"""A process for suspects: `python -m worker.suspects WORKER_ID CAPACITY MAX_LOSSES FD`.

It hears ids on its standard input, a JSON list in each line. Each second in which it has nothing to
do it says on the descriptor FD how many lines it has heard. It drains when its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from functools import partial
from uuid import UUID

from shared.config import Settings
from shared.crypto import SecretBox
from shared.process import begin
from shared.threads import EX_SOFTWARE
from worker.engine.engine import Engine

IDLE_SECONDS = 1.0
OFFER_SECONDS = 1.0

# Its bytes are one part in so many of the worker's, beside which it runs.
BYTES_SHARE = 8

# Lines beyond that are forgotten: the sweep hints again what they named.
MAX_LINES = 100


class Heard:
    """What the parent says. lines: how many lines that was. is_over: nothing more is to be done."""

    def __init__(self) -> None:
        self.offers: queue.Queue[list[UUID]] = queue.Queue(MAX_LINES)
        self.lines = 0
        self.is_over = threading.Event()

    def hear(self) -> None:
        """Wait for nothing but the next line, so that the end is heard in any case."""
        try:
            for line in sys.stdin:
                with contextlib.suppress(queue.Full):
                    self.offers.put_nowait([UUID(trigger_id) for trigger_id in json.loads(line)])
                self.lines += 1  # behind the put: who reads it and then finds no offer has seen them all
        finally:
            self.is_over.set()


def main() -> None:
    """Work until the standard input ends, or a signal says so."""
    worker_id = UUID(sys.argv[1])
    capacity, max_losses, descriptor = map(int, sys.argv[2:])
    heard = Heard()
    # a terminal's Ctrl-C is for the parent, which ends the input
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: heard.is_over.set())
    settings, engine = begin(partial(_make, worker_id, capacity, max_losses))
    engine.start()
    threading.Thread(target=heard.hear, daemon=True).start()
    refused: list[UUID] = []
    while not heard.is_over.is_set():
        refused = _step(engine, heard, refused, descriptor)
        if engine.seconds_since_tick > settings.stale_seconds:  # wedged; what it has is void by now
            os._exit(EX_SOFTWARE)
    engine.stop()


def _make(worker_id: UUID, capacity: int, max_losses: int, settings: Settings) -> Engine:
    size_bytes = max(settings.capacity_bytes // BYTES_SHARE, 2 * settings.max_body_bytes)
    own = settings.model_copy(update={"capacity": capacity, "capacity_bytes": size_bytes, "lanes": ()})
    return Engine(own, SecretBox(settings.keys), worker_id=worker_id, max_losses=max_losses)


def _step(engine: Engine, heard: Heard, refused: list[UUID], descriptor: int) -> list[UUID]:
    """Offer what was heard, or say that there is nothing to do.

    refused: what there was no room for; it is offered again. Returns what there is none for now.
    """
    lines = heard.lines
    try:
        ids = refused or heard.offers.get(timeout=IDLE_SECONDS)
    except queue.Empty:
        if engine.is_idle:
            with contextlib.suppress(BrokenPipeError):  # the parent has died: the input ends, too
                os.write(descriptor, b"%d\n" % lines)
        return []
    return [] if engine.offer(ids, OFFER_SECONDS) else ids


if __name__ == "__main__":
    main()
