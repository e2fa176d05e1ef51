"""The watchdog of database calls."""

from __future__ import annotations

import socket
import threading
from typing import Any, cast

import pytest

from shared.postgres.connections import Watchdog, WatchedConnection


class Call:
    """What the watchdog needs of a connection."""

    closed = 0

    def __init__(self, end: socket.socket, call_seconds: float) -> None:
        self._end = end
        self.call_seconds = call_seconds

    def fileno(self) -> int:
        return self._end.fileno()


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


def test_an_overdue_call_is_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _theirs = pair
    with Watchdog().watch(cast(WatchedConnection, Call(ours, 0.05))):
        assert ours.recv(1) == b"", "the socket was shut down under the blocked read"


def test_a_call_that_ended_in_time_is_not_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watchdog = Watchdog()
    with watchdog.watch(cast(WatchedConnection, Call(ours, 0.05))):
        pass
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    theirs.send(b"x")
    assert ours.recv(1) == b"x"


def test_only_the_overdue_one_of_two_calls_is_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    overdue, _theirs = pair
    ours, theirs = socket.socketpair()
    watchdog = Watchdog()
    with ours, theirs, watchdog.watch(cast(WatchedConnection, Call(ours, 60))):
        with watchdog.watch(cast(WatchedConnection, Call(overdue, 0.05))):
            assert overdue.recv(1) == b""
        theirs.send(b"x")
        assert ours.recv(1) == b"x"


def test_the_end_of_a_call_within_a_call_does_not_end_the_watch(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Fails when a statement inside of a longer call takes the connection off the watchdog's
    list.
    """
    ours, _theirs = pair
    watchdog, connection = Watchdog(), cast(WatchedConnection, Call(ours, 0.05))
    with watchdog.watch(connection):
        with watchdog.watch(connection):
            pass
        assert ours.recv(1) == b""


def test_a_call_that_failed_is_not_watched_any_more(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watchdog, connection = Watchdog(), cast(WatchedConnection, Call(ours, 0.05))
    with pytest.raises(ZeroDivisionError), watchdog.watch(connection):
        raise ZeroDivisionError
    overdue, silent = socket.socketpair()
    with overdue, silent, watchdog.watch(cast(WatchedConnection, Call(overdue, 0.2))):
        assert overdue.recv(1) == b"", "the watchdog has passed since"
    theirs.send(b"x")
    assert ours.recv(1) == b"x"


def test_a_descriptor_that_was_closed_and_given_to_another_is_not_cut() -> None:
    """The watch ends with its call, so that the number of a closed socket can be used again at
    once.
    """
    watchdog = Watchdog()
    first, theirs = socket.socketpair()
    with theirs, watchdog.watch(cast(WatchedConnection, Call(first, 0.05))):
        number = first.fileno()
    first.close()
    again, other = socket.socketpair()
    overdue, silent = socket.socketpair()
    with again, other, overdue, silent:
        again.settimeout(5)
        assert number in (again.fileno(), other.fileno(), overdue.fileno(), silent.fileno())
        with watchdog.watch(cast(WatchedConnection, Call(overdue, 0.2))):
            overdue.settimeout(5)
            assert overdue.recv(1) == b"", "the watchdog has passed since"
        other.send(b"x")
        assert again.recv(1) == b"x"


def test_a_closed_connection_has_no_socket_to_watch() -> None:
    class Closed:
        closed = 1

    with Watchdog().watch(cast(WatchedConnection, Closed())):
        pass


def test_one_thread_watches_for_a_whole_process(pair: tuple[socket.socket, socket.socket]) -> None:
    before = sum(thread.name == "db-watchdog" for thread in threading.enumerate())
    watchdog = Watchdog()
    for _ in range(20):
        with watchdog.watch(cast(WatchedConnection, Call(pair[0], 60))):
            pass
    assert sum(thread.name == "db-watchdog" for thread in threading.enumerate()) == before + 1
