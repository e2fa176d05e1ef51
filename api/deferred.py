"""Answers that wait for something without holding a thread.

A view that must wait for a commit returns defer(future, respond). Under the shell (api/server.py) the
thread is free at once and the shell awaits the future; under plain WSGI, as in Flask's test client, the
view waits itself. Either way respond() makes the answer from the outcome, or says what must be waited for next,
and a future that is not done in time is cancelled, so that a batch not yet sent leaves it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from api import environ

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers and body."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """What must happen before the answer leaves.

    respond: takes the future's result, or its exception (TimeoutError when it took too long). Another Deferred
    from it is waited for in turn, for as long as that one says.
    """

    future: Future[Any] | asyncio.Future[Any]
    respond: Callable[[Any], Answer | Deferred]
    timeout_seconds: float

    async def answer(self, limit: AbstractAsyncContextManager[object]) -> Answer:
        """Wait on the event loop: for the future within this limit, for what comes next as long as that says."""
        answer = await self._step(limit)
        while isinstance(answer, Deferred):
            answer = await answer._step(asyncio.timeout(answer.timeout_seconds))
        return answer

    async def _step(self, limit: AbstractAsyncContextManager[object]) -> Answer | Deferred:
        future = asyncio.wrap_future(self.future)
        try:
            async with limit:
                outcome = await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # it is this request that was cancelled
            outcome = TimeoutError()
        except Exception as error:  # noqa: BLE001 - respond() turns it into an answer
            outcome = error
        return self.respond(outcome)

    def answer_here(self) -> Answer:
        """Wait in this thread."""
        answer = self._step_here()
        while isinstance(answer, Deferred):
            answer = answer._step_here()
        return answer

    def _step_here(self) -> Answer | Deferred:
        assert isinstance(self.future, Future)
        try:
            outcome = self.future.result(self.timeout_seconds)
        except FutureTimeoutError as error:
            self.future.cancel()
            outcome = error
        except Exception as error:  # noqa: BLE001 - respond() turns it into an answer
            outcome = error
        return self.respond(outcome)


class _NoAnswerYet(Response):
    """What a view returns to Flask when the shell makes the answer: nothing of it is looked at."""

    def __call__(self, _environ: Any, start_response: Any) -> list[bytes]:
        start_response("202 Accepted", [])
        return []


_NO_ANSWER_YET = _NoAnswerYet()


def defer(deferred: Deferred) -> Response:
    """Return this from a view."""
    slot = request.environ.get(environ.DEFERRED)
    if slot is not None:
        slot.append(deferred)
        return _NO_ANSWER_YET
    status, headers, body = deferred.answer_here()
    response = Response(body, status=status)
    response.headers.extend(headers)
    return response
