"""The steps of a call, with a callback at hand and a recorder that a test controls."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from flask import Flask
from structlog.testing import capture_logs

from api.deadlines import Deadlines
from api.ingress import routes
from api.ingress.accept import accept
from api.ingress.call import Call
from api.ingress.head import head
from api.ingress.loops import Loops
from api.ingress.outcomes import Outcomes, TriggerOutcome
from api.ingress.parts import EXTENSION, IngressParts
from api.ingress.record import Decided, NewTrigger, Recorded
from api.ingress.resolve import Snapshot
from api.ingress.status import status_of
from api.server import Shell
from api.urls import Urls
from shared import metrics
from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.errors import Conflict, Forbidden, NotFound, PointsmanError, Refused, RowRejected, Unavailable
from tests.unit.api.test_server import Exchange, scope_of

ACTIVE = Snapshot(UUID(int=1), UUID(int=2), True, 30_000, 0)
RUNNING = TriggerOutcome("RUNNING")
CALL = Call("/t/x", "http://localhost/t/x", "r", "POST", "/t/x", "", "[]", None, b"body", None)


class FakeResolver:
    """callback: what is found, an exception to raise, or None for a look-up that does not end."""

    def __init__(self, callback: Snapshot | Exception | None) -> None:
        self._callback = callback

    async def find(self, address: str) -> Snapshot:
        assert address == CALL.address
        await asyncio.sleep(60 if self._callback is None else 0)
        assert self._callback is not None
        if isinstance(self._callback, Exception):
            raise self._callback
        return self._callback


class FakeRecorder:
    """decide: what becomes of a trigger, an exception to raise, or None for a batch that never
    comes back.
    """

    def __init__(self, decide: Callable[[NewTrigger], Decided | Exception | None]) -> None:
        self._decide = decide
        self.asked: list[NewTrigger] = []
        self.futures: list[asyncio.Future[Decided]] = []

    def record(self, trigger: NewTrigger) -> asyncio.Future[Decided]:
        self.asked.append(trigger)
        future: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        decided = self._decide(trigger)
        if isinstance(decided, (RowRejected, OSError)):
            future.set_exception(decided)
        elif decided is not None:
            future.set_result(cast(Decided, decided))
        return future


class FakeOutcomes:
    """known: how far each trigger is that is asked for."""

    def __init__(self, known: TriggerOutcome) -> None:
        self._known = known
        self.waiting: list[Future[TriggerOutcome]] = []

    def wait(self, _trigger_id: UUID, _user_id: UUID, _seconds: float) -> Future[TriggerOutcome]:
        self.waiting.append(Future())
        return self.waiting[-1]

    def ask(self, _trigger_id: UUID) -> Future[TriggerOutcome]:
        future: Future[TriggerOutcome] = Future()
        future.set_result(self._known)
        return future


class Ingress:
    """One ingress without servers."""

    def __init__(
        self,
        decide: Callable[[NewTrigger], Decided | Exception | None] = lambda t: Recorded(t.id),
        callback: Snapshot | Exception | None = ACTIVE,
        settings: Settings | None = None,
        known: TriggerOutcome = RUNNING,
    ) -> None:
        self.recorder, self.outcomes = FakeRecorder(decide), FakeOutcomes(known)
        self.large_recorder = FakeRecorder(decide)
        self.parts = IngressParts(
            settings=settings or Settings(),
            secrets=SecretBox(new_key()),
            database=cast(Any, None),
            urls=Urls("http://localhost"),
            deadline=Deadlines(0.2),
            resolver=cast(Any, FakeResolver(callback)),
            loops=Loops(cast(Any, None), cast(Any, None)),
            recorder=cast(Any, self.recorder),
            large_recorder=cast(Any, self.large_recorder),
            outcomes=cast(Outcomes, self.outcomes),
            threads=cast(Any, None),
        )

    def call(self, **changes: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
        call = dataclasses.replace(CALL, **changes)
        status, headers, body = asyncio.run(accept(call, self.parts))
        assert isinstance(body, bytes)
        return status, dict(headers), orjson.loads(body)


def refused(code: str) -> float:
    return float(metrics.triggers_refused.labels(code)._value.get())


def test_a_call_is_recorded_and_then_answered() -> None:
    ingress = Ingress()
    status, headers, body = ingress.call()
    (trigger,) = ingress.recorder.asked
    assert (status, headers["x-request-id"]) == (202, "r")
    assert body == {
        "triggerId": str(trigger.id),
        "status": "PENDING",
        "statusUrl": f"http://localhost/t/x/{trigger.id}",
    }
    assert (trigger.callback, trigger.call.body, trigger.wait_seconds) == (ACTIVE, b"body", 0)


@pytest.mark.parametrize(
    ("callback", "changes", "error"),
    [
        (NotFound("no such", code="unknown_trigger_url"), {}, NotFound),
        (dataclasses.replace(ACTIVE, active=False), {}, Forbidden),
        (ACTIVE, {"idempotency_key": ""}, Refused),
        (OSError("away"), {}, PointsmanError),
    ],
)
def test_who_is_refused_is_counted_and_not_recorded(
    callback: Snapshot | Exception, changes: dict[str, Any], error: type[PointsmanError]
) -> None:
    ingress = Ingress(callback=callback)
    with pytest.raises(error) as raised:
        ingress.call(**changes)
    counted = refused(raised.value.code)
    with pytest.raises(error):
        ingress.call(**changes)
    assert ingress.recorder.asked == []
    assert refused(raised.value.code) == counted + 1


@pytest.mark.parametrize(
    ("decided", "error"), [(Conflict("other request"), Conflict), (RowRejected("a NUL"), RowRejected)]
)
def test_who_is_refused_when_recorded_gives_the_place_of_a_waiter_back(
    decided: Exception, error: type[PointsmanError]
) -> None:
    """Fails when refused calls fill the places of those who wait for an outcome."""
    ingress = Ingress(lambda _trigger: decided)
    with pytest.raises(error):
        ingress.call(prefer="wait=5")
    (waiting,) = ingress.outcomes.waiting
    assert waiting.cancelled()


def test_a_commit_that_does_not_end_is_503_and_what_was_not_sent_is_given_up() -> None:
    """Fails when a batch not yet sent would still record what its caller was told to repeat."""
    ingress = Ingress(lambda _trigger: None)
    with pytest.raises(Unavailable) as raised:
        ingress.call(prefer="wait=5")
    assert raised.value.code == "outcome_unknown"
    assert "Idempotency-Key" in raised.value.hint
    (future,), (waiting,) = ingress.recorder.futures, ingress.outcomes.waiting
    assert future.cancelled()
    assert waiting.cancelled()


def test_the_time_for_recording_does_not_end_a_wait_for_the_outcome() -> None:
    ingress = Ingress()
    status, headers, body = ingress.call(prefer="wait=1")
    assert (status, body["status"], headers["preference-applied"]) == (202, "RUNNING", "wait=1")
    assert ingress.outcomes.waiting[0].cancelled(), "the place is free again"


def test_a_callers_key_lasts_as_long_as_the_settings_say() -> None:
    ingress = Ingress(settings=Settings(idempotency_seconds=12_345))
    ingress.call(idempotency_key="k")
    (trigger,) = ingress.recorder.asked
    assert trigger.key is not None
    assert trigger.key.lifetime_seconds == 12_345


def test_a_repeated_call_is_told_of_the_earlier_one_and_does_not_wait_for_its_own() -> None:
    earlier = UUID(int=9)
    ingress = Ingress(lambda _trigger: Recorded(earlier, repeated=True))
    status, headers, body = ingress.call(prefer="wait=1", idempotency_key="k")
    assert (status, body["triggerId"]) == (202, str(earlier))
    assert headers["idempotent-replayed"] == "true"
    assert [one.cancelled() for one in ingress.outcomes.waiting] == [True, True]


def test_who_waits_for_an_earlier_one_that_has_ended_gives_its_place_back() -> None:
    ended = TriggerOutcome("SUCCESS", datetime.now(UTC))
    ingress = Ingress(lambda _trigger: Recorded(UUID(int=9), repeated=True), known=ended)
    status, _headers, body = ingress.call(prefer="wait=60", idempotency_key="k")
    assert (status, body["status"]) == (200, "SUCCESS")
    assert [one.cancelled() for one in ingress.outcomes.waiting] == [True, True]


def test_a_look_up_that_does_not_end_is_503_in_time_and_nothing_was_recorded() -> None:
    """Fails when the deadline begins behind the look-up."""
    ingress = Ingress(callback=None)
    with pytest.raises(Unavailable) as raised:
        ingress.call()
    assert (raised.value.code, ingress.recorder.asked) == ("unavailable", [])
    assert "Nothing was accepted" in raised.value.hint
    with pytest.raises(Unavailable):
        asyncio.run(status_of(CALL.address, str(UUID(int=1)), "r", ingress.parts))
    with pytest.raises(Unavailable):
        asyncio.run(head(CALL.address, "r", ingress.parts))


def test_a_fault_in_recording_is_an_internal_error_and_gives_the_place_of_a_waiter_back() -> None:
    ingress = Ingress(lambda _trigger: OSError("canary"))
    with capture_logs() as logged, pytest.raises(PointsmanError) as raised:
        ingress.call(prefer="wait=5")
    assert (raised.value.status, raised.value.code) == (500, "internal_error")
    assert "canary" not in raised.value.message
    assert [line["event"] for line in logged] == ["request_broken"]
    assert ingress.outcomes.waiting[0].cancelled()


def test_a_caller_that_is_gone_gives_up_its_row_and_its_place() -> None:
    async def story() -> None:
        task = asyncio.create_task(accept(dataclasses.replace(CALL, prefer="wait=5"), ingress.parts))
        while not ingress.recorder.futures:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    ingress = Ingress(lambda _trigger: None)
    asyncio.run(story())
    assert ingress.recorder.futures[0].cancelled()
    assert ingress.outcomes.waiting[0].cancelled()


@pytest.mark.parametrize(
    "ingress",
    [
        Ingress(callback=NotFound("no such")),
        Ingress(lambda _trigger: Conflict("other request")),
        Ingress(lambda _trigger: RowRejected("a NUL")),
        Ingress(lambda _trigger: OSError("x")),
        Ingress(lambda t: Recorded(t.id)),
    ],
    ids=["unknown", "conflict", "rejected", "broken", "accepted"],
)
def test_a_call_leaves_nothing_in_memory_whatever_becomes_of_it(ingress: Ingress) -> None:
    """Fails when refusals hold the frames that hold them: each kept its body until a collection."""
    app = Flask("test")
    app.extensions[EXTENSION] = ingress.parts
    app.register_blueprint(routes.ingress)
    shell = Shell(app, Settings())

    async def call() -> None:
        scope = scope_of("POST", "/t/x", [(b"content-length", b"4")])
        exchange = Exchange([b"body"], 0.0, True)
        await shell(scope, exchange.receive, exchange.send)
        ingress.recorder.asked.clear()
        ingress.recorder.futures.clear()

    async def calls() -> int:
        for _ in range(20):
            await call()
        return sum(isinstance(one, Call) for one in gc.get_objects())

    gc.collect()
    before = sum(isinstance(one, Call) for one in gc.get_objects())
    gc.disable()
    try:
        with capture_logs():
            left = asyncio.run(calls()) - before
    finally:
        gc.enable()
    shell.stop()
    assert left == 0


def test_a_large_call_is_recorded_apart() -> None:
    """Fails when small ones wait behind megabytes of others'."""
    ingress = Ingress()
    ingress.call(body=b"x" * 20_000)
    ingress.call()
    assert [len(trigger.call.body) for trigger in ingress.large_recorder.asked] == [20_000]
    assert [trigger.call.body for trigger in ingress.recorder.asked] == [b"body"]


@pytest.mark.parametrize(
    ("forwards", "sealed"),
    [
        ([], set()),
        (["authorization"], {"authorization"}),
        (["cookie", "authorization"], {"cookie", "authorization"}),
    ],
)
def test_a_callers_credential_is_recorded_where_an_action_sends_it_on(
    forwards: list[str], sealed: set[str]
) -> None:
    ingress = Ingress(callback=dataclasses.replace(ACTIVE, forwards=frozenset(forwards)))
    given = [("authorization", "***"), ("cookie", "***"), ("x-a", "***")]
    credentials = (("authorization", "canary-a"), ("cookie", "canary-c"))
    status, _, _ = ingress.call(headers=orjson.dumps(given).decode(), credentials=credentials)
    assert status == 202
    (trigger,) = ingress.recorder.asked
    assert "canary" not in trigger.call.headers
    recorded = dict(orjson.loads(trigger.call.headers))
    opened = {
        name: ingress.parts.secrets.decrypt(recorded[name]) for name in recorded if recorded[name] != "***"
    }
    assert opened == {name: f"canary-{name[0]}" for name in sealed}
