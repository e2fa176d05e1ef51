"""How an API process leaves, so that its clients notice nothing.

    told to stop ─▶ answers end their connections ─▶ newcomers are kept out ─▶ what is in hand is
    answered ─▶ who takes nothing of an answer is let go ─▶ idle connections end, the port closes ─▶
    what is still in hand gets a last time

Invariant: as long as a connection can be opened, what comes over it is answered. A client that
calls on a connection just as that ends cannot be helped: one that calls at least once in
LEAVE_SECONDS is told before.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sized

from api.connections import StalledReaders, is_anybody_connected, keep_newcomers_out, let_in

# In which clients are told to come back elsewhere. Over sooner if nobody is connected.
LEAVE_SECONDS = 3.0

# In which a connection that was being opened has come.
HANDSHAKE_SECONDS = 0.2

# In which most of what is in hand is answered, before idle connections end.
QUIET_SECONDS = 1.0

# In which a client takes something of its answer, even a slow one. Only waited for if there is one.
READ_SECONDS = 1.0

# For what is in hand even then.
STOP_SECONDS = 5.0

# After which a process has left, if nothing else holds it up.
LEFT_SECONDS = LEAVE_SECONDS + HANDSHAKE_SECONDS + QUIET_SECONDS + READ_SECONDS + STOP_SECONDS
POLL_SECONDS = 0.05


async def let_clients_go(port: int) -> None:
    """Wait until nobody is connected any more, a bounded time. Every answer ends its
    connection.
    """
    await _until(lambda: not is_anybody_connected(port), LEAVE_SECONDS)


async def answer_the_last(port: int, in_hand: Sized) -> None:
    """Keep newcomers out and wait until nothing is in hand, a bounded time."""
    keep_newcomers_out(port)

    def is_quiet() -> bool:
        let_in(port)
        return not in_hand and time.monotonic() >= handshakes_over

    handshakes_over = time.monotonic() + HANDSHAKE_SECONDS
    await _until(is_quiet, HANDSHAKE_SECONDS + QUIET_SECONDS)


async def let_stalled_go(port: int) -> None:
    """End connections whose clients take nothing of their answers: they would use up the last
    time.
    """
    if sys.platform != "linux":
        return
    readers = StalledReaders(port, READ_SECONDS)
    if await readers.look():
        await asyncio.sleep(READ_SECONDS)
        await readers.look()


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
