"""Renders in a child process, once, for who waits: previews, and conditions that are tried.

A worker, which renders all the time, keeps children for that (worker/rendering). Invariants:

- A job that takes longer than its time ends the child and fails alone. The others are done by the
  next one.
- Only so many children run at a time, and none longer than so long.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

import orjson

from shared.errors import Unavailable
from shared.templates.jobs import (
    LENGTHS,
    OUT_OF_MEMORY,
    PROGRESS_BYTES,
    Job,
    Rendered,
    is_for_here,
    look_ups_in,
    told,
)
from shared.templates.language import TemplateError

COMMAND = (sys.executable, "-m", "shared.templates")
CPU_SECONDS = 0.25

# With this code the kernel ends a child whose job took longer.
RAN_OUT_OF_TIME = -signal.SIGPROF

MAX_CHILDREN = 2
WAIT_SECONDS = 2.0
CHILD_SECONDS = 10.0

# After so many jobs that ended their child the rest is not tried.
MAX_DEATHS = 3

Done = Rendered | TemplateError

_children = threading.BoundedSemaphore(MAX_CHILDREN)


def environment() -> dict[str, str]:
    """What a child is started with: no setting of Pointsman's, and the clock of nobody's place."""
    return {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def ended_by_job(code: int) -> TemplateError | None:
    """What a job has done that ended its child with this code, None if nobody knows.

    Some of the C code below breaks where memory ends.
    """
    if code == RAN_OUT_OF_TIME:
        return TemplateError(f"It takes more than {CPU_SECONDS * 1000:g} ms to render.")
    if code == OUT_OF_MEMORY or -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        return TemplateError("It takes more memory than a template may have.")
    return None


def done_somewhere(jobs: Sequence[Job]) -> list[Done]:
    """What jobs come to, in their order: look-ups here, all else in a child. Raises Unavailable."""
    here = [_is_for_here(job) for job in jobs]
    elsewhere = [job for job, is_here in zip(jobs, here, strict=True) if not is_here]
    apart = iter(done_apart(elsewhere) if elsewhere else ())
    return [_done(job) if is_here else next(apart) for job, is_here in zip(jobs, here, strict=True)]


def _is_for_here(job: Job) -> bool:
    look_ups = look_ups_in(part.template for part in job.parts)
    return is_for_here(look_ups, job.subject.body, job.subject.answers)


def _done(job: Job) -> Done:
    try:
        return job.done()
    except TemplateError as error:
        return error


def done_apart(jobs: Sequence[Job]) -> list[Done]:
    """What jobs come to, in their order.

    Raises Unavailable when too many are rendered already, TemplateError for what cannot be told.
    """
    if not _children.acquire(timeout=WAIT_SECONDS):
        raise Unavailable("Too much is being rendered just now.")
    try:
        found: list[Done] = []
        for _ in range(MAX_DEATHS):
            found += _by_one_child(jobs[len(found) :])
            if len(found) == len(jobs):
                return found
    finally:
        _children.release()
    return [
        *found,
        *(TemplateError("It was not tried, since others took too long.") for _ in jobs[len(found) :]),
    ]


def _by_one_child(jobs: Sequence[Job]) -> list[Done]:
    """What one child does of these, and the failure of the job that ended it."""
    frames = b"".join(
        told(job, again=number > 0 and jobs[number - 1].subject is job.subject)
        for number, job in enumerate(jobs)
    )
    with tempfile.TemporaryFile() as progress:
        progress.truncate(PROGRESS_BYTES)
        command = [*COMMAND, str(progress.fileno()), str(CPU_SECONDS)]
        try:
            ended = subprocess.run(
                command,
                input=frames,
                stdout=subprocess.PIPE,
                pass_fds=(progress.fileno(),),
                env=environment(),
                timeout=CHILD_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise Unavailable("Nothing could be rendered just now.") from None
    found = _read(ended.stdout)
    if len(found) < len(jobs):
        if (fault := ended_by_job(ended.returncode)) is None:
            raise Unavailable("Nothing could be rendered just now.")
        found.append(fault)
    return found


def _read(output: bytes) -> list[Done]:
    found: list[Done] = []
    position = 0
    while position + LENGTHS.size <= len(output):
        head_bytes, _ = LENGTHS.unpack_from(output, position)
        head = output[position + LENGTHS.size : position + LENGTHS.size + head_bytes]
        if len(head) < head_bytes:
            break
        holds, texts, error, _ = orjson.loads(head)
        found.append(Rendered(holds, texts) if error is None else TemplateError(error))
        position += LENGTHS.size + head_bytes
    return found
