"""A TCP proxy that cuts, stalls and delays, in a thread of its own.

It stands between Pointsman's processes and a real PostgreSQL or Redis. Whole: stall() lets nothing
through and keeps what was sent, cut() closes every connection and drops what was kept. By message:
cut_at() watches for a message of one kind of connection and cuts that connection before the server
gets it, or after the server has answered and before the client hears of it, so that a COMMIT
becomes ambiguous; hold_at() leaves it hanging there, until the client ends or the test releases it.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType

import uvloop

CHUNK_BYTES = 256 * 1024
HELD_POLL_SECONDS = 0.02

# Of a connection's first words, by which it is told from others.
GREETING_BYTES = 2_000


@dataclass
class Cut:
    """One cut to come.

    connection: bytes of the first words of the connections meant; message: bytes of the message.
    """

    connection: bytes
    message: bytes
    after_answer: bool
    hold: bool
    skip: int = 0  # so many such messages pass first
    happened: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let a message that was held before the server got it go on."""
        self.released.set()


class Proxy:
    """Forwards from a port of its own to a server. Use as a context manager.

    tls: speaks TLS with the client, and not with the server.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self._cuts: list[Cut] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._delay_seconds = 0.0
        self.port = 0

    def __enter__(self) -> Proxy:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def stall(self) -> None:
        """Let nothing through until resume()."""
        self._loop.call_soon_threadsafe(lambda: self._flows.clear())

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._flows.set())

    def strand(self) -> None:
        """Swallow, for good and without a word, whatever present connections say; new ones are
        served.
        """
        asyncio.run_coroutine_threadsafe(self._strand_all(), self._loop).result(5)

    def cut(self) -> None:
        """Close every connection; what a stall has kept is lost."""
        asyncio.run_coroutine_threadsafe(self._cut_all(), self._loop).result(5)

    def delay(self, seconds: float) -> None:
        """Hold back whatever the server says for this long."""
        self._delay_seconds = seconds

    def cut_at(self, connection: bytes, message: bytes, *, after_answer: bool, skip: int = 0) -> Cut:
        """Cut the next connection of this kind that sends this message; the Cut's `happened` tells
        when it did.
        """
        self._cuts.append(Cut(connection, message, after_answer, hold=False, skip=skip))
        return self._cuts[-1]

    def hold_at(self, connection: bytes, message: bytes, *, after_answer: bool) -> Cut:
        """Let the next connection of this kind that sends this message hang, instead of cutting
        it.
        """
        self._cuts.append(Cut(connection, message, after_answer, hold=True))
        return self._cuts[-1]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._flows = asyncio.Event(), asyncio.Event()
        self._flows.set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, limit=CHUNK_BYTES, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        await self._cut_all()

    async def _strand_all(self) -> None:
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def _cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, to_server)
        self._writers.update(both)
        answer: list[Cut] = []  # a cut that waits for the server's answer
        try:
            flows = self._flows
            forth = asyncio.create_task(self._forth(reader, to_server, answer, flows))
            back = asyncio.create_task(self._back(from_server, writer, answer, flows))
            await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
            for task in (forth, back):
                task.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
        finally:
            self._writers.difference_update(both)
            for one in both:
                one.transport.abort()

    async def _forth(
        self,
        reader: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answer: list[Cut],
        flows: asyncio.Event,
    ) -> None:
        greeting = b""
        while chunk := await reader.read(CHUNK_BYTES):
            await flows.wait()
            if len(greeting) < GREETING_BYTES:
                greeting += chunk
            cut = self._due_cut(greeting, chunk)
            if cut is not None and not cut.after_answer:
                cut.happened.set()
                while cut.hold and not cut.released.is_set() and not reader.at_eof():
                    await asyncio.sleep(HELD_POLL_SECONDS)
                if not cut.released.is_set():
                    return
                cut = None
            if cut is not None:
                answer.append(cut)
            to_server.write(chunk)
            await to_server.drain()

    def _due_cut(self, greeting: bytes, chunk: bytes) -> Cut | None:
        for cut in self._cuts:
            if cut.connection in greeting and cut.message in chunk:
                if cut.skip:
                    cut.skip -= 1
                    return None
                self._cuts.remove(cut)
                return cut
        return None

    async def _back(
        self,
        from_server: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: list[Cut],
        flows: asyncio.Event,
    ) -> None:
        while chunk := await from_server.read(CHUNK_BYTES):
            if answer:
                answer[0].happened.set()
                if answer[0].hold:
                    await asyncio.Event().wait()  # _forth() sees the client's end
                return
            await flows.wait()
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            writer.write(chunk)
            await writer.drain()
