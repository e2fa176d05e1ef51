"""The child process that renders: jobs come on its standard input, answers leave on its output.

Invariants:

- A job that takes longer than its time of CPU ends the process, whatever it is doing: the kernel
  sees to it.
- It never has more than so much memory beyond what it started with.
- Which job it is at stands in memory that the parent reads after its death.
- It opens nothing and knows no secret but those in the texts that it renders.

    python -m shared.templates <file descriptor of the memory> <CPU seconds of a job>
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

from shared.templates.jobs import LENGTHS, Job, Part, Rendered, answer, heard
from shared.templates.language import TemplateError
from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target
from shared.templates.template import template

MORE_MEMORY_BYTES = 20 * 1024 * 1024
PROGRESS_BYTES = 8


def main(progress: mmap.mmap, cpu_seconds: float, jobs: BinaryIO, answers: BinaryIO) -> None:
    """Do what comes until nothing comes any more."""
    scope: Scope | None = None
    number = 0
    while len(lengths := jobs.read(LENGTHS.size)) == LENGTHS.size:
        head_bytes, body_bytes = LENGTHS.unpack(lengths)
        head, body = jobs.read(head_bytes), jobs.read(body_bytes)
        number += 1
        progress[:PROGRESS_BYTES] = number.to_bytes(PROGRESS_BYTES, "little")
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        began = time.process_time_ns()
        done: Rendered | TemplateError | MemoryError
        try:
            job, scope = heard(head, body, scope)
            done = job.done(scope)
        except (TemplateError, MemoryError) as error:
            done = error
        answers.write(answer(done, (time.process_time_ns() - began) // 1000))
        answers.flush()


def _warm_up() -> None:
    """Have everything imported and used once before the memory is bounded."""
    subject = Subject("", "", "POST", "/", "a=1", "[]", None, b'{"a": [1.5]}', "", "")
    text = "{% for i in body.a %}{{ i | plus: 1 | round | date: '%Y' }}{% endfor %}"
    Job(subject, [Part("", template(text, Target.TEXT))], "body.a contains 1.5").done()


def _bound_memory() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MORE_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent's end is its own
    _warm_up()
    if sys.platform == "linux":
        _bound_memory()
    shared_memory = mmap.mmap(int(sys.argv[1]), PROGRESS_BYTES)
    main(shared_memory, float(sys.argv[2]), sys.stdin.buffer, os.fdopen(1, "wb"))
