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
from worker.engine.engine import Engine

IDLE_SECONDS = 1.0
OFFER_SECONDS = 1.0

# Beyond so many lines the pipe fills, and the parent keeps what does not go in.
MAX_LINES = 100

Lines = queue.Queue[list[UUID]]


def main() -> None:
    """Work until the standard input ends, or a signal says so."""
    worker_id = UUID(sys.argv[1])
    capacity, max_losses, descriptor = map(int, sys.argv[2:])
    is_over = threading.Event()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's Ctrl-C is for the parent, which ends the input
    signal.signal(signal.SIGTERM, lambda _number, _frame: is_over.set())
    _settings, engine = begin(partial(_make, worker_id, capacity, max_losses))
    engine.start()
    lines: Lines = queue.Queue(MAX_LINES)
    threading.Thread(target=_hear, args=(lines, is_over), daemon=True).start()
    _work(engine, lines, is_over, descriptor)
    engine.stop()


def _make(worker_id: UUID, capacity: int, max_losses: int, settings: Settings) -> Engine:
    own = settings.model_copy(update={"capacity": capacity, "lanes": ()})
    return Engine(own, SecretBox(settings.keys), worker_id=worker_id, max_losses=max_losses)


def _hear(lines: Lines, is_over: threading.Event) -> None:
    for line in sys.stdin:
        lines.put([UUID(trigger_id) for trigger_id in json.loads(line)])
    is_over.set()


def _work(engine: Engine, lines: Lines, is_over: threading.Event, descriptor: int) -> None:
    heard = 0
    while not is_over.is_set():
        try:
            ids = lines.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            if engine.is_idle:
                with contextlib.suppress(BrokenPipeError):  # the parent has died: the input ends, too
                    os.write(descriptor, b"%d\n" % heard)
            continue
        heard += 1
        while not is_over.is_set() and not engine.offer(ids, OFFER_SECONDS):
            pass


if __name__ == "__main__":
    main()
