"""The receiver of latency runs: it answers 200 and notes when each delivery came in whole.

It runs in a thread of the benchmark, so that sending and arrival are read from one clock. A path
that begins with /hang is not answered before release().
"""

from __future__ import annotations

import asyncio
import re
import threading
from time import monotonic
from types import TracebackType
from typing import cast

import uvloop

from tests.benchmarks.wire import message_length

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"ok": true}'

_SENT = re.compile(rb'"sent": ?([0-9.]+)')


class Sink:
    """The receiver, as a context manager.

    latencies: seconds from the moment in a body's `sent` to its arrival. first_sent_at, last_at:
    the earliest of those moments and the latest arrival, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.first_sent_at = float("inf")
        self.last_at = 0.0
        self._hanging: list[asyncio.Transport] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the sink did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def forget(self) -> None:
        """Begin anew."""
        self.latencies = []
        self.first_sent_at = float("inf")

    @property
    def hanging(self) -> int:
        """Requests that wait for their answer."""
        return len(self._hanging)

    def hang(self, transport: asyncio.Transport) -> None:
        """One request more that waits."""
        self._hanging.append(transport)

    def release(self) -> None:
        """Answer all that waits."""
        self._loop.call_soon_threadsafe(self._answer_hanging)

    def _answer_hanging(self) -> None:
        while self._hanging:
            self._hanging.pop().write(ANSWER)

    def note(self, sent_at: float, at: float) -> None:
        """One delivery."""
        self.latencies.append(at - sent_at)
        self.first_sent_at = min(self.first_sent_at, sent_at)
        self.last_at = at

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Caller(self), "127.0.0.1", 0, backlog=4096)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()


class _Caller(asyncio.Protocol):
    """One connection of whoever delivers."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        at = monotonic()
        self._received = self._received + data if self._received else data
        while (length := message_length(self._received)) is not None and len(self._received) >= length:
            request, self._received = self._received[:length], self._received[length:]
            if request.startswith(b"POST /hang"):
                self._sink.hang(self._transport)
                continue
            if found := _SENT.search(request):
                self._sink.note(float(found[1]), at)
            self._transport.write(ANSWER)
