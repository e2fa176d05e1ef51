"""Answers that are awaited, so that nobody who waits holds a thread.

A view that must wait for something returns awaited(coroutine). Under the shell (api/server.py) the
coroutine runs on the event loop after the view has ended. Under plain WSGI, as in Flask's test
client, it runs to its end right here.

Invariant: a coroutine gets all that it needs as arguments. It runs after the request, so that
Flask's `request` is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from flask import Response, request

from api import environ
from api.lines import Flow

Answer = tuple[int, list[tuple[str, str]], bytes | Flow]
"""Status, headers and body. A flow is sent as it is taken, and closed by who sends it."""


class _NoAnswerYet(Response):
    """What a view returns to Flask when the shell awaits the answer: nothing of it is looked at."""

    def __call__(self, _environ: Any, start_response: Any) -> list[bytes]:
        start_response("202 Accepted", [])
        return []


_NO_ANSWER_YET = _NoAnswerYet()


def awaited(coroutine: Coroutine[Any, Any, Answer]) -> Response:
    """Return this from a view: the answer is what the coroutine returns, or the error that it
    raises.
    """
    slot = request.environ.get(environ.AWAITED)
    if slot is not None:
        slot.append(coroutine)
        return _NO_ANSWER_YET
    status, headers, body = asyncio.run(_whole(coroutine))
    response = Response(body, status=status)
    response.headers.clear()
    response.headers.extend(headers)
    return response


async def _whole(coroutine: Coroutine[Any, Any, Answer]) -> tuple[int, list[tuple[str, str]], bytes]:
    status, headers, body = await coroutine
    if not isinstance(body, Flow):
        return status, headers, body
    try:
        return status, headers, b"".join([part async for part in body.parts()])
    finally:
        body.close()
