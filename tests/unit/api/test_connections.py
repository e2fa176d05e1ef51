"""What the kernel tells of connections on loopback, and what is made of it."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Container, Iterator

import pytest

from api import connections
from api.connections import (
    Client,
    SlowHeads,
    StalledReaders,
    is_anybody_connected,
    keep_newcomers_out,
    let_in,
)
from shared import metrics
from tests.running import eventually

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells nothing elsewhere")
SECONDS = 0.3

# Longer than a tick of the kernel's clock.
TICK_SECONDS = 0.03


class Listening:
    """A port, and what was accepted on it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._opened = [self._socket]
        self.port: int = self._socket.getsockname()[1]

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client's end and ours."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        accepted, _ = self._socket.accept()
        accepted.settimeout(5)
        self._opened += [client, accepted]
        return client, accepted

    def close(self) -> None:
        for one in self._opened:
            one.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    listening = Listening()
    yield listening
    listening.close()


def said(client: socket.socket, accepted: socket.socket, data: bytes) -> None:
    """The client says something, and the server has read it."""
    client.sendall(data)
    assert accepted.recv(100) == data


def pass_time(seconds: float) -> None:
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > seconds, seconds + 5, f"{seconds} s to pass")


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(100, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    finally:
        client.settimeout(5)


def looked(port: int, in_hand: Container[Client] = (), *, seconds: float = SECONDS) -> SlowHeads:
    """Look until a head that has begun before is over, twice as long."""
    heads = SlowHeads(port, in_hand, seconds)
    began = time.monotonic()

    def look() -> bool:
        asyncio.run(heads.look())
        return time.monotonic() - began > 2 * seconds

    eventually(look, 10, "the end of a head")
    return heads


@LINUX
@pytest.mark.parametrize("answered_before", [False, True])
def test_a_head_that_does_not_get_on_is_ended(listening: Listening, answered_before: bool) -> None:
    client, accepted = listening.pair()
    if answered_before:
        said(client, accepted, b"a request")
        accepted.sendall(b"an answer")
        assert client.recv(100) == b"an answer"
        pass_time(TICK_SECONDS)
    said(client, accepted, b"a part")
    counted = metrics.heads_cut._value.get()
    looked(listening.port)
    assert not is_open(client)
    assert accepted.recv(100) == b"", "who holds it hears of its end"
    assert metrics.heads_cut._value.get() == counted + 1


@LINUX
def test_who_is_idle_or_in_hand_or_none_of_ours_is_left_alone(listening: Listening) -> None:
    other = Listening()
    silent, idle, in_hand = (listening.pair() for _ in range(3))
    elsewhere = other.pair()
    said(*idle, b"a request")
    pass_time(TICK_SECONDS)
    idle[1].sendall(b"an answer")
    for client, accepted in (in_hand, elsewhere):
        said(client, accepted, b"a part")
    name, port = in_hand[0].getsockname()
    looked(listening.port, {(name, str(port))})
    assert [is_open(client) for client, _ in (silent, idle, in_hand, elsewhere)] == [True] * 4
    other.close()


@LINUX
def test_each_head_has_its_whole_time(listening: Listening) -> None:
    """Fails when the time of a head that was answered counts for the next one."""
    client, accepted = listening.pair()
    heads = SlowHeads(listening.port, (), 1.0)
    began = time.monotonic()

    def look() -> bool:
        said(client, accepted, b"a part")
        asyncio.run(heads.look())
        accepted.sendall(b"an answer")
        client.recv(100)
        pass_time(TICK_SECONDS)
        return time.monotonic() - began > 1.5

    eventually(look, 10, "more than the time of one head")
    assert is_open(client)


@LINUX
def test_a_head_that_drips_is_ended_as_well(listening: Listening) -> None:
    client, accepted = listening.pair()
    heads = SlowHeads(listening.port, (), SECONDS)

    def look() -> bool:
        if is_open(client):
            said(client, accepted, b"x")
        asyncio.run(heads.look())
        return not is_open(client)

    eventually(look, 5, "the end of a head that drips")


@LINUX
def test_a_look_that_comes_late_begins_anew(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a process that was stopped for a while ends connections whose heads have come
    meanwhile.
    """
    monkeypatch.setattr(connections, "LATE_SECONDS", SECONDS / 3)
    client, accepted = listening.pair()
    said(client, accepted, b"a part")
    heads = SlowHeads(listening.port, (), SECONDS)
    for _ in range(3):
        asyncio.run(heads.look())
        pass_time(SECONDS)
    assert is_open(client)


def test_who_is_connected_is_seen(listening: Listening) -> None:
    assert not is_anybody_connected(listening.port)
    client, accepted = listening.pair()
    assert is_anybody_connected(listening.port)
    accepted.close()
    assert not is_anybody_connected(listening.port)
    assert client.recv(1) == b"", "looking keeps nothing open"


def _deny(_listening: socket.socket) -> None:
    raise PermissionError


@LINUX
@pytest.mark.parametrize("may_filter", [True, False])
def test_newcomers_are_kept_out_and_who_is_there_is_served(
    listening: Listening, may_filter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where only root may filter, if that is the only way."""
    if not may_filter:
        monkeypatch.setattr(connections, "_filter_newcomers", _deny)
    client, accepted = listening.pair()
    keep_newcomers_out(listening.port)
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", listening.port), timeout=0.3)
    let_in(listening.port)
    said(client, accepted, b"a request")
    accepted.sendall(b"an answer")
    assert client.recv(100) == b"an answer"
    another = Listening()
    assert another.pair(), "other ports are as they were"
    another.close()


def fill(accepted: socket.socket) -> None:
    """Send until the kernel takes no more."""
    accepted.setblocking(False)
    try:
        while True:
            accepted.send(b"x" * 65_536)
    except BlockingIOError:
        accepted.settimeout(5)


@LINUX
def test_who_takes_nothing_is_ended_and_who_takes_something_is_not(listening: Listening) -> None:
    stalled, slow, idle = (listening.pair() for _ in range(3))
    for client, accepted in (stalled, slow):
        said(client, accepted, b"a request")
        fill(accepted)
    readers = StalledReaders(listening.port, SECONDS)
    counted = metrics.readers_cut._value.get()
    began = time.monotonic()

    def look() -> bool:
        slow[0].recv(1 << 20)
        fill(slow[1])
        asyncio.run(readers.look())
        return time.monotonic() - began > 4 * SECONDS

    eventually(look, 5, "several times as long as a client may take nothing")
    with pytest.raises(OSError, match="Broken pipe"):
        stalled[1].send(b"x")
    assert is_open(slow[0])
    assert is_open(idle[0])
    assert metrics.readers_cut._value.get() == counted + 1
