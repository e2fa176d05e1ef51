"""One child process that renders, and the pipes to it.

Invariants:

- It has none of the worker's settings, and no descriptor but its own.
- It ends with its input, or when the worker dies.
- How far it has come can be read after its death.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import orjson

from shared.templates.apart import COMMAND, environment
from shared.templates.jobs import LENGTHS, PROGRESS_BYTES

# Its input has ended, and it does not.
END_SECONDS = 0.5


class RenderProcess:
    """A child process. Used by one coroutine at a time."""

    def __init__(self, process: asyncio.subprocess.Process, progress: mmap.mmap) -> None:
        self._process = process
        self._progress = progress
        self.told = 0

    @classmethod
    async def start(cls, cpu_seconds: float) -> RenderProcess:
        """A new one; raises OSError. cpu_seconds: of CPU that one job may take."""
        descriptor = os.memfd_create("progress") if hasattr(os, "memfd_create") else _unnamed_file()
        try:
            os.ftruncate(descriptor, PROGRESS_BYTES)
            progress = mmap.mmap(descriptor, PROGRESS_BYTES)
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                str(descriptor),
                str(cpu_seconds),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(descriptor,),
                env=environment(),
            )
        finally:
            os.close(descriptor)
        return cls(process, progress)

    @property
    def begun(self) -> int:
        """How many jobs it has begun."""
        return int.from_bytes(self._progress[:PROGRESS_BYTES], "little")

    async def tell(self, frames: Iterable[bytes]) -> None:
        """Send jobs. A child that is dead is found so by hear()."""
        assert self._process.stdin is not None
        listed = list(frames)
        self.told += len(listed)
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(b"".join(listed))
            await self._process.stdin.drain()

    async def hear(self) -> Any:
        """The next answer; raises EOFError when it is dead."""
        assert self._process.stdout is not None
        head_bytes, _ = LENGTHS.unpack(await self._process.stdout.readexactly(LENGTHS.size))
        return orjson.loads(await self._process.stdout.readexactly(head_bytes))

    async def end(self) -> int:
        """Have it end. Returns the code that it has ended with.

        It is not killed at once: asyncio's own kill() takes the code of one that is just dying.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        code = await self._process.wait()
        self._progress.close()
        return code


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
