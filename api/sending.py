"""How an answer is sent to its client, as ASGI has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from api.lines import MAX_SECONDS, Flow
from shared.errors import PointsmanError

# Of an answer, handed on at once.
CHUNK_BYTES = 64 * 1024

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[str, str]]

log = structlog.get_logger("server")


async def send_whole(send: Send, status: int, headers: Headers, answer: bytes) -> None:
    """Send an answer. A long one goes in chunks, each when the one before is on its way."""
    await send(_start(status, headers))
    for start in range(CHUNK_BYTES, len(answer), CHUNK_BYTES):
        chunk = answer[start - CHUNK_BYTES : start]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    last = (len(answer) - 1) // CHUNK_BYTES * CHUNK_BYTES if answer else 0
    await send({"type": "http.response.body", "body": answer[last:]})


async def send_flow(send: Send, status: int, headers: Headers, flow: Flow) -> None:
    """Send each part when the one before is on its way, and close the flow.

    What cannot be read on is cut off by the server, which misses its end.
    """
    sent = 0
    try:
        async with asyncio.timeout(MAX_SECONDS), contextlib.aclosing(flow.parts()) as parts:
            await send(_start(status, headers))
            async for part in parts:
                # an empty one, too: with the first one the head leaves
                for start in range(0, max(len(part), 1), CHUNK_BYTES):
                    chunk = part[start : start + CHUNK_BYTES]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    sent += len(chunk)
        await send({"type": "http.response.body", "body": b""})
    except (PointsmanError, TimeoutError) as error:
        why = (
            error.message if isinstance(error, PointsmanError) else f"It took longer than {MAX_SECONDS:g} s."
        )
        request_id = dict(headers).get("x-request-id")
        log.warning("answer_cut", error=why, bytes=sent, user=str(flow.owner), request=request_id)
    finally:
        flow.close()


def _start(status: int, headers: Headers) -> MutableMapping[str, Any]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}
