"""The child process that renders: jobs come on its standard input, answers leave on its output.

Invariants:

- A job that takes longer than its time of CPU ends the process, whatever it is doing: the kernel
  sees to it. So does one that needs more memory.
- It never has more than so much memory beyond what it started with.
- Nothing of a job is left when it is answered but its subject, which the next one may be about.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from shared.templates.jobs import (
    LENGTHS,
    OUT_OF_MEMORY,
    PROGRESS_BYTES,
    Job,
    Part,
    Rendered,
    ToldJob,
    answer,
    heard,
)
from shared.templates.language import TemplateError
from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target
from shared.templates.template import template

MORE_MEMORY_BYTES = 20 * 1024 * 1024


def main(progress: mmap.mmap, cpu_seconds: float, jobs: BinaryIO, answers: BinaryIO) -> None:
    """Do what comes until nothing comes any more."""
    scope: Scope | None = None
    number = 0
    while len(lengths := jobs.read(LENGTHS.size)) == LENGTHS.size:
        number += 1
        progress[:PROGRESS_BYTES] = number.to_bytes(PROGRESS_BYTES, "little")
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            head, body = (jobs.read(size) for size in LENGTHS.unpack(lengths))
            job = heard(head, body, scope)
            scope = job.scope
            said = _said_of(job)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # what is left of the job would be missing to the next ones
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(said)
        answers.flush()
        del head, body, job, said


def _said_of(job: ToldJob) -> bytes:
    """The answer to a job; raises MemoryError.

    An error that outlived it would keep all that was rendered until then.
    """
    began = time.process_time_ns()
    done: Rendered | TemplateError
    try:
        done = job.done()
    except MemoryError:
        raise
    except TemplateError as error:
        done = error
    except Exception as error:  # noqa: BLE001 - a fault of ours in one job is none of the others'
        done = TemplateError(f"It cannot be rendered ({type(error).__name__}).")
    return answer(done, (time.process_time_ns() - began) // 1000)


def _warm_up() -> None:
    """Have everything imported and used once before the memory is bounded."""
    subject = Subject(
        UUID(int=1), datetime.now(UTC), "POST", "/", "a=1", "[]", None, b'{"a": [1.5]}', UUID(int=2), ""
    )
    text = "{% for i in body.a %}{{ i | plus: 1 | round | date: '%Y' }}{% endfor %}"
    Job(subject, [Part("", template(text, Target.TEXT))], "body.a contains 1.5").done()


def _bound_memory() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MORE_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # its parent's end is its own
    _warm_up()
    if sys.platform == "linux":
        _bound_memory()
    shared_memory = mmap.mmap(int(sys.argv[1]), PROGRESS_BYTES)
    main(shared_memory, float(sys.argv[2]), sys.stdin.buffer, os.fdopen(1, "wb"))
