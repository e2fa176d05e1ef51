"""Answers that wait without holding a thread, and the same under plain WSGI."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, Response

from api import environ
from api.deadlines import Deadlines
from api.deferred import Answer, Deferred, defer
from shared.errors import RowRejected

Wait = Callable[[Deferred], Answer]


def on_the_loop(deferred: Deferred) -> Answer:
    async def answer() -> Answer:
        return await deferred.answer(asyncio.timeout(deferred.timeout_seconds))

    return asyncio.run(answer())


def in_the_thread(deferred: Deferred) -> Answer:
    return deferred.answer_here()


either_way = pytest.mark.parametrize("wait", [on_the_loop, in_the_thread])


def tell(outcome: Any) -> Answer:
    """An answer that shows what respond() was given."""
    if isinstance(outcome, Exception):
        return 503, [("x-error", type(outcome).__name__)], b"late"
    return 200, [("x-a", "1"), ("x-a", "2")], f"{outcome}".encode()


def done(outcome: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return future


@either_way
def test_the_answer_is_made_from_the_result(wait: Wait) -> None:
    assert wait(Deferred(done("stored"), tell, 1)) == (200, [("x-a", "1"), ("x-a", "2")], b"stored")


@either_way
def test_an_error_is_given_to_respond_not_raised(wait: Wait) -> None:
    status, headers, _ = wait(Deferred(done(RowRejected("no")), tell, 1))
    assert (status, headers) == (503, [("x-error", "RowRejected")])


@either_way
def test_a_future_that_fails_with_a_timeout_of_its_own_is_an_error_too(wait: Wait) -> None:
    assert wait(Deferred(done(TimeoutError()), tell, 1))[1] == [("x-error", "TimeoutError")]


@either_way
def test_what_is_not_done_in_time_is_cancelled(wait: Wait) -> None:
    """Fails when a batch not yet sent would still store what the caller was told is not accepted."""
    future: Future[Any] = Future()
    started = time.monotonic()
    status, headers, _ = wait(Deferred(future, tell, 0.05))
    assert (status, headers) == (503, [("x-error", "TimeoutError")])
    assert future.cancelled()
    assert not future.set_running_or_notify_cancel(), "the batch leaves it out"
    assert time.monotonic() - started < 5


@either_way
def test_what_is_already_being_stored_cannot_be_cancelled_and_still_is_late(wait: Wait) -> None:
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    assert wait(Deferred(future, tell, 0.05))[1] == [("x-error", "TimeoutError")]
    future.set_result("too late for anybody")


@either_way
def test_a_result_from_another_thread_ends_the_wait(wait: Wait) -> None:
    future: Future[Any] = Future()
    timer = threading.Timer(0.05, future.set_result, ("stored",))
    timer.start()
    assert wait(Deferred(future, tell, 10))[2] == b"stored"
    timer.join()


@either_way
def test_a_future_that_its_owner_cancelled_is_an_error_too(wait: Wait) -> None:
    """Fails when asyncio's CancelledError, which is no Exception, passes through: there would be no answer."""
    future: Future[Any] = Future()
    future.cancel()
    assert wait(Deferred(future, tell, 1))[0] == 503


def test_the_limit_that_the_loop_gives_holds() -> None:
    async def answer() -> Answer:
        return await Deferred(Future(), tell, 30).answer(Deadlines(0.05).limit())

    started = time.monotonic()
    assert asyncio.run(answer())[0] == 503
    assert time.monotonic() - started < 5


def test_the_loop_serves_others_meanwhile() -> None:
    async def both() -> tuple[Answer, Answer]:
        first: Future[Any] = Future()
        limits = Deadlines(5)

        async def release() -> Answer:
            first.set_result("freed by a neighbour")
            return await Deferred(done("second"), tell, 5).answer(limits.limit())

        one, two = await asyncio.gather(Deferred(first, tell, 5).answer(limits.limit()), release())
        return one, two

    one, two = asyncio.run(both())
    assert (one[2], two[2]) == (b"freed by a neighbour", b"second")


@pytest.fixture
def app() -> Flask:
    app = Flask("test")

    @app.get("/deferred")
    def deferred() -> Response:
        return defer(Deferred(done("stored"), tell, 1))

    return app


def test_under_plain_wsgi_a_view_waits_itself(app: Flask) -> None:
    answer = app.test_client().get("/deferred")
    assert (answer.status_code, answer.data) == (200, b"stored")
    assert answer.headers.getlist("x-a") == ["1", "2"]


def test_under_the_shell_the_view_leaves_its_answer_behind(app: Flask) -> None:
    slot: list[Deferred] = []
    app.test_client().get("/deferred", environ_overrides={environ.DEFERRED: slot})
    (left,) = slot
    assert left.answer_here()[2] == b"stored"


@either_way
def test_what_must_be_waited_for_next_is_waited_for_in_turn(wait: Wait) -> None:
    """Each for as long as it says, not for as long as the first was given."""
    second: Future[Any] = Future()
    threading.Timer(0.2, second.set_result, ["second"]).start()
    deferred = Deferred(done("first"), lambda _first: Deferred(second, tell, 5), 0.1)
    assert wait(deferred) == (200, [("x-a", "1"), ("x-a", "2")], b"second")
