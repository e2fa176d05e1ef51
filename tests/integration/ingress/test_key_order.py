"""Two processes that take the same keys at once, in opposite orders, on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from api.ingress import record
from api.ingress.record import Decided, NewTrigger, Recorded, Recorder
from shared.redis.hints import HintPublisher
from tests.integration.ingress.test_record import made_of, new_trigger
from tests.world import World

ROUNDS = 3
KEYS = 10

# Each key takes this long, so that both processes are in the middle of their keys at one time.
_SLOW_KEYS = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION pause();
"""


class Nobody:
    """Takes hints and sends none."""

    def offer(self, _lane: str, _ids: Sequence[UUID]) -> None: ...


@pytest.fixture
def recorders(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorder]]:
    """Two that wait for one another as long as it takes, so that only a deadlock ends a wait."""
    monkeypatch.setattr(record, "_KEY_WAIT", "SET LOCAL lock_timeout = '20s'")
    nobody = cast(HintPublisher, Nobody())
    made = [Recorder(world.database_url, nobody, call_seconds=30, first_hint_seconds=5) for _ in range(2)]
    yield made
    for recorder in made:
        recorder.stop()


def test_opposite_orders_do_not_deadlock(
    world: World, stranger: World, recorders: list[Recorder], connect: Callable[..., Any]
) -> None:
    """Fails when keys are not sorted: each process holds what the other waits for, and PostgreSQL
    ends one of them. The keys are of two tenants.
    """
    world.do(_SLOW_KEYS)
    for number in range(ROUNDS):
        names = [f"{number} {key}" for key in range(KEYS)]
        batches = [
            [new_trigger(tenant, key=made_of(name)) for name in names for tenant in (world, stranger)]
            for _ in recorders
        ]
        answers = flush_at_once(recorders, [batches[0], batches[1][::-1]])
        first, second = answers[0], answers[1][::-1]
        assert all(isinstance(one, Recorded) for one in (*first, *second))
        assert [of(one) for one in first] == [of(one) for one in second], "equal keys, equal triggers"
        assert len({of(one) for one in first}) == 2 * KEYS


def of(answer: Decided) -> UUID:
    assert isinstance(answer, Recorded)
    return answer.trigger_id


def flush_at_once(recorders: list[Recorder], batches: list[list[NewTrigger]]) -> list[list[Decided]]:
    """What each recorder answers for its batch; what one raises is raised here."""
    barrier = threading.Barrier(len(recorders))
    answers: dict[int, list[Decided]] = {}
    errors: list[Exception] = []

    def flush(number: int) -> None:
        barrier.wait(5)
        try:
            answers[number] = recorders[number].flush(batches[number])
        except Exception as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=flush, args=(number,)) for number in range(len(recorders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for error in errors:
        raise error
    return [answers[number] for number in range(len(recorders))]
