"""The watchdog of database calls, and URLs."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from shared.db import GuardedConnection, Watchdog, sqlalchemy_url
from shared.errors import ConfigError


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
    with Watchdog().watch(cast(GuardedConnection, Call(ours, 0.05))):
        assert ours.recv(1) == b"", "the socket was shut down under the blocked read"


def test_a_call_that_ended_in_time_is_not_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watchdog = Watchdog()
    with watchdog.watch(cast(GuardedConnection, Call(ours, 0.05))):
        pass
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    theirs.send(b"x")
    assert ours.recv(1) == b"x"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_url_names_its_driver(scheme: str) -> None:
    assert sqlalchemy_url(f"{scheme}://u:p@h/x") == "postgresql+psycopg2://u:p@h/x"


@pytest.mark.parametrize("url", ["mysql://u:canary@h/x", "canary", ""])
def test_another_kind_of_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        sqlalchemy_url(url)
    assert "canary" not in error.value.message + error.value.hint
