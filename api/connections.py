"""The connections that this process has accepted, as the kernel sees them.

The server in front of the shell holds them and says nothing about them. The kernel tells of each
when it last sent and received. A request pays nothing for that.

Invariants:

- Only what was accepted on the port of the API is touched, through a duplicate of its descriptor,
  and looked at once more before: the server may have closed it meanwhile, and its number may be
  another's.
- A connection whose client has a request in hand is ended only if it takes nothing of the answer.
  One that is idle is never ended here.
- Where the kernel does not tell (another system than Linux, or one that imitates it), nobody is
  ended and newcomers are not kept out.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import structlog

from shared import metrics

Client = tuple[str, str]
"""Host and port of the other side, as Granian's scopes have them."""

HEAD_SECONDS = 10.0
LOOK_SECONDS = 2.0

# Since the last look. What is known from before it counts no more.
LATE_SECONDS = 2 * LOOK_SECONDS

# In which a client takes something of what it is being sent, or it ends.
STALL_SECONDS = 60.0
STALL_LOOK_SECONDS = 10.0

# So many descriptors are looked at in one go: a millisecond of the loop.
CHUNK = 200

# From <linux/tcp.h>: state, ms since data was last sent and received, bytes acknowledged and
# received, bytes not sent yet, segments of data sent.
TCP_INFO = struct.Struct("=B43xI4xI64xQQ8xI8xI")
ESTABLISHED = 1
HALF_CLOSED = 8
LISTENING = 10

# From <linux/filter.h>: a program that drops segments with SYN and without ACK, as in tcpdump's
# «tcp[13] & 0x12 = 2», with the offset counted from the TCP header.
SO_ATTACH_FILTER = 26
DROP_NEWCOMERS = struct.pack(
    "=HBBIHBBIHBBIHBBIHBBI",
    *(0x30, 0, 0, 13),  # load the byte of the flags
    *(0x54, 0, 0, 0x12),  # keep SYN and ACK of it
    *(0x15, 0, 1, 0x02),  # SYN alone: go on, otherwise pass over the next
    *(0x06, 0, 0, 0),  # drop
    *(0x06, 0, 0, 0x7FFFFFFF),  # take it whole
)
INSTRUCTIONS = 5

# Least hops that a packet must have left (RFC 5082), by the family of the socket, and more than any
# has that comes from elsewhere or over loopback.
LEAST_HOPS = {socket.AF_INET: (socket.IPPROTO_IP, 21), socket.AF_INET6: (socket.IPPROTO_IPV6, 73)}
MOST_HOPS = 255

log = structlog.get_logger("connections")


class Seen(NamedTuple):
    """What the kernel tells of a connection. sent_ms, received_ms: how long ago."""

    state: int
    sent_ms: int
    received_ms: int
    bytes_taken: int
    bytes_received: int
    bytes_waiting: int
    data_segments_sent: int

    @property
    def is_heard(self) -> bool:
        """Whether its client has sent something since it last got something."""
        if self.state != ESTABLISHED or not self.bytes_received:
            return False
        return not self.data_segments_sent or self.received_ms < self.sent_ms

    @property
    def is_awaited(self) -> bool:
        """Whether its client has yet to make room for something."""
        return self.state in (ESTABLISHED, HALF_CLOSED) and self.bytes_waiting > 0


class SlowHeads:
    """Ends connections whose next request has begun and does not get on.

    Granian has one limit from the end of an answer to the end of the next head, that of idle
    connections; it holds for what this does not see: a part that came within the same tick of the
    kernel's clock (10 ms at most) as the answer before it, and nothing more. in_hand: the clients
    whose head has come whole.
    """

    def __init__(self, port: int, in_hand: Container[Client], seconds: float = HEAD_SECONDS) -> None:
        self._port = port
        self._in_hand = in_hand
        self._seconds = seconds
        self._since: dict[Client, float] = {}
        self._looked_at = 0.0

    async def watch(self) -> None:
        """Look again and again, where the kernel tells."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if sys.platform == "linux":
                await self.look()

    async def look(self) -> None:
        """End the heads that have taken too long, and note when those under way began."""
        if time.monotonic() - self._looked_at > LATE_SECONDS:
            self._since = {}  # this process stood still: what came meanwhile may not have been read
        since: dict[Client, float] = {}
        async for connection, seen in _those(self._port, lambda seen: seen.is_heard):
            with suppress(OSError):
                self._judge(connection, seen, since)
        self._since, self._looked_at = since, time.monotonic()

    def _judge(self, connection: socket.socket, seen: Seen, since: dict[Client, float]) -> None:
        host, port, *_ = connection.getpeername()
        client = (host, str(port))
        if client in self._in_hand:
            return
        now = time.monotonic()
        began = self._since.get(client, now)
        if now - began > seen.sent_ms / 1000:  # that was an earlier head, answered meanwhile
            began = now
        if now - began < self._seconds:
            since[client] = began
            return
        connection.shutdown(socket.SHUT_RDWR)
        metrics.heads_cut.inc()


async def _those(port: int, is_meant: Callable[[Seen], bool]) -> AsyncIterator[tuple[socket.socket, Seen]]:
    """The connections accepted on this port that are meant. Each may end at any moment."""
    for number, descriptor in enumerate(_descriptors()):
        if number % CHUNK == CHUNK - 1:
            await asyncio.sleep(0)
        seen = _seen(descriptor)
        if seen is None or not is_meant(seen):
            continue
        with _accepted(descriptor, port) as connection, suppress(OSError):
            seen = None if connection is None else _seen(connection.fileno())
            if connection is not None and seen is not None and is_meant(seen):
                yield connection, seen


class StalledReaders:
    """Ends connections whose clients take nothing of what they are being sent, for so long.

    However slowly somebody reads, something is taken.
    """

    def __init__(self, port: int, seconds: float = STALL_SECONDS) -> None:
        self._port = port
        self._seconds = seconds
        self._since: dict[Client, tuple[int, float]] = {}  # bytes taken, and since when no more

    async def watch(self) -> None:
        """Look again and again, where the kernel tells."""
        while True:
            await asyncio.sleep(STALL_LOOK_SECONDS)
            if sys.platform == "linux":
                await self.look()

    async def look(self) -> int:
        """End those that have taken nothing for so long.

        How many others have not yet taken all that they are being sent.
        """
        since: dict[Client, tuple[int, float]] = {}
        async for connection, seen in _those(self._port, lambda seen: seen.is_awaited):
            with suppress(OSError):
                self._judge(connection, seen, since)
        self._since = since
        return len(since)

    def _judge(self, connection: socket.socket, seen: Seen, since: dict[Client, tuple[int, float]]) -> None:
        host, port, *_ = connection.getpeername()
        client, now = (host, str(port)), time.monotonic()
        taken, began = self._since.get(client, (-1, now))
        if taken != seen.bytes_taken:
            began = now
        if now - began < self._seconds or taken < 0:
            since[client] = seen.bytes_taken, began
            return
        connection.shutdown(socket.SHUT_RDWR)
        metrics.readers_cut.inc()


def is_anybody_connected(port: int) -> bool:
    """Whether a connection that was accepted on this port is open."""
    for descriptor in _descriptors():
        with _accepted(descriptor, port) as connection:
            if connection is not None:
                return True
    return False


def keep_newcomers_out(port: int) -> None:
    """Let the kernel drop what would open a connection to this port of ours.

    A connection that is being opened when a port is closed is cut, and its caller cannot know
    whether it was heard. One that is not answered is tried again a second later, and finds another
    process or a closed port. Newer kernels let nobody but root filter what TCP gets: then packets
    must have come from nowhere, and who was let in before needs let_in().
    """
    if sys.platform != "linux":
        return
    for descriptor in _descriptors():
        seen = _seen(descriptor)
        if seen is None or seen.state != LISTENING:
            continue
        with _ours(descriptor, port) as listening, suppress(OSError):
            if listening is None:
                continue
            try:
                _filter_newcomers(listening)
            except PermissionError:
                listening.setsockopt(*LEAST_HOPS[listening.family], MOST_HOPS)


def _filter_newcomers(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(DROP_NEWCOMERS, len(DROP_NEWCOMERS))
    attached = struct.pack("HP", INSTRUCTIONS, ctypes.addressof(program))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)


def let_in(port: int) -> None:
    """Hear those whose connections came about as newcomers were being kept out.

    What they have sent meanwhile was dropped. They send it again.
    """
    for descriptor in _descriptors():
        with _accepted(descriptor, port) as connection, suppress(OSError):
            if connection is not None and sys.platform == "linux":
                connection.setsockopt(*LEAST_HOPS[connection.family], 0)


def _descriptors() -> list[int]:
    try:
        with os.scandir("/dev/fd") as entries:
            return [int(entry.name) for entry in entries]
    except OSError as error:  # no descriptor is free for the look itself
        log.warning("connections_not_seen", error=str(error))
        return []


def _seen(descriptor: int) -> Seen | None:
    """What the kernel tells of a TCP connection; None of anything else."""
    try:
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    except OSError:  # no socket, or closed meanwhile
        return None
    try:
        told = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    except OSError:  # of another kind
        return None
    finally:
        borrowed.detach()
    return Seen(*TCP_INFO.unpack(told)) if len(told) == TCP_INFO.size else None


@contextmanager
def _ours(descriptor: int, port: int) -> Iterator[socket.socket | None]:
    """A duplicate of a socket of ours on this port; None for any other descriptor."""
    try:
        duplicate = os.dup(descriptor)
    except OSError:  # closed meanwhile
        yield None
        return
    try:
        found = socket.socket(fileno=duplicate)
    except OSError:  # no socket
        os.close(duplicate)
        yield None
        return
    with found:
        is_ours = found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port
        yield found if is_ours else None


@contextmanager
def _accepted(descriptor: int, port: int) -> Iterator[socket.socket | None]:
    with _ours(descriptor, port) as found:
        try:
            if found is not None:
                found.getpeername()
        except OSError:  # it listens, or has ended
            found = None
        yield found
