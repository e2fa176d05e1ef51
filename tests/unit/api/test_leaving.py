"""The waits of a process that leaves."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from api import leaving


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAVE_SECONDS", "QUIET_SECONDS"):
        monkeypatch.setattr(leaving, name, 0.5)


def seconds_of(port: int) -> float:
    began = time.monotonic()
    asyncio.run(leaving.let_clients_go(port))
    return time.monotonic() - began


def test_clients_have_a_bounded_time_to_go_and_nobody_is_waited_for_in_vain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert seconds_of(port) < 0.4
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                assert 0.5 <= seconds_of(port) < 2
        assert seconds_of(port) < 0.4


def test_what_is_in_hand_is_waited_for_a_bounded_time() -> None:
    async def wait(in_hand: set[int]) -> float:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.3, in_hand.discard, 1)
        await leaving.answer_the_last(0, in_hand)
        return time.monotonic() - began

    assert 0.3 <= asyncio.run(wait({1})) < 0.6
    assert 0.7 <= asyncio.run(wait({2})) < 2, "for what does not end, the server's own stop has a time"
