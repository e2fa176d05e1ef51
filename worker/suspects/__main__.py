"""A process for suspects: `python -m worker.suspects WORKER_ID CAPACITY MAX_LOSSES FD`.

It hears ids on its standard input, a JSON list in each line. Each second in which it has nothing to
do it says on the descriptor FD how many lines it has heard. It drains when its input ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from functools import partial
from typing import TextIO
from uuid import UUID

from shared.config import Settings
from shared.crypto import SecretBox
from shared.process import begin
from worker.engine.engine import Engine

IDLE_SECONDS = 1.0
OFFER_SECONDS = 1.0

Lines = queue.SimpleQueue[list[UUID] | None]
"""What was heard; None is the end."""


def main() -> None:
    """Work until the standard input ends."""
    worker_id = UUID(sys.argv[1])
    capacity, max_losses, descriptor = map(int, sys.argv[2:])
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's Ctrl-C is for the parent, which ends the input
    lines: Lines = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda _number, _frame: lines.put(None))
    _settings, engine = begin(partial(_make, worker_id, capacity, max_losses))
    engine.start()
    threading.Thread(target=_hear, args=(lines,), daemon=True).start()
    with os.fdopen(descriptor, "w") as parent:
        _work(engine, lines, parent)
        engine.stop()


def _make(worker_id: UUID, capacity: int, max_losses: int, settings: Settings) -> Engine:
    own = settings.model_copy(update={"capacity": capacity, "lanes": ()})
    return Engine(own, SecretBox(settings.keys), worker_id=worker_id, max_losses=max_losses)


def _hear(lines: Lines) -> None:
    for line in sys.stdin:
        lines.put([UUID(trigger_id) for trigger_id in json.loads(line)])
    lines.put(None)


def _work(engine: Engine, lines: Lines, parent: TextIO) -> None:
    heard = 0
    while True:
        try:
            ids = lines.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            if engine.is_idle:
                print(heard, file=parent, flush=True)
            continue
        if ids is None:
            return
        heard += 1
        while not engine.offer(ids, OFFER_SECONDS):
            if _is_over(lines):
                return


def _is_over(lines: Lines) -> bool:
    """Whether the end has been heard. Puts back what was heard beside it."""
    kept: list[list[UUID] | None] = []
    while not lines.empty():
        kept.append(lines.get())
    for ids in kept:
        lines.put(ids)
    return None in kept


if __name__ == "__main__":
    main()
