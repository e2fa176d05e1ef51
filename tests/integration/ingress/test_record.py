"""Recording triggers on a real PostgreSQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future
from uuid import UUID

import pytest

from api.ingress.record import NewTrigger, Recorder
from shared.errors import RowRejected
from shared.hints import HintPublisher, HintSender
from shared.ids import new_id
from shared.queues import make_celery
from tests.world import World


@pytest.fixture
def recorder(world: World, redis_url: str) -> Iterator[Recorder]:
    publisher = HintPublisher(HintSender(make_celery(redis_url), redis_url))
    publisher.start()
    recorder = Recorder(world.database_url, publisher, call_seconds=3, first_hint_seconds=5)
    yield recorder
    recorder.stop()
    publisher.stop()


def new_trigger(world: World, **changes: object) -> NewTrigger:
    trigger = NewTrigger(
        id=new_id(),
        callback_id=world.callback_id,
        user_id=world.user_id,
        method="POST",
        path="/t/x",
        query="a=1",
        headers='[["a", "b"]]',
        content_type="text/plain",
        body=b"\x00\xff",
        source_ip="127.0.0.1",
    )
    return dataclasses.replace(trigger, **changes)  # type: ignore[arg-type]


def test_a_recorded_trigger_has_a_run_that_the_sweep_looks_at_later(world: World, recorder: Recorder) -> None:
    recorder.start()
    trigger = new_trigger(world)
    recorder.record(trigger).result(5)
    row = world.run(trigger.id)
    assert row is not None
    assert (row["status"], row["claim"], UUID(row["callback_id"])) == ("PENDING", 0, world.callback_id)
    assert world.ask("SELECT hint_at > now() + interval '3 s', due_at <= now() FROM runs") == [(True, True)]
    assert bytes(world.ask("SELECT body FROM triggers")[0][0]) == b"\x00\xff"


@pytest.mark.parametrize(
    "poison",
    [{"path": "a\x00b"}, {"id": UUID("00000000-0000-7000-8000-000000000000")}, {"headers": "no json"}],
)
def test_one_poisoned_row_among_fifty_fails_alone(
    world: World, recorder: Recorder, poison: dict[str, object]
) -> None:
    """Fails without the halving: a NUL, a key outside every partition, a value that is no JSON."""
    triggers = [new_trigger(world, **(poison if n == 25 else {})) for n in range(51)]
    answers = [recorder.record(trigger) for trigger in triggers]
    recorder.start()

    for n, answer in enumerate(answers):
        if n == 25:
            with pytest.raises(RowRejected):
                answer.result(10)
        else:
            answer.result(10)
    assert world.ask("SELECT count(*) FROM triggers") == [(50,)]
    assert world.ask("SELECT count(*) FROM runs") == [(50,)]


def test_a_batch_repeated_after_an_ambiguous_commit_brings_back_nothing_that_settled(
    world: World, recorder: Recorder
) -> None:
    """Fails when runs are inserted from the parameters instead of from the triggers really inserted."""
    settled, new = new_trigger(world), new_trigger(world)
    recorder.flush([settled])
    world.do("DELETE FROM runs")

    recorder.flush([settled, new])

    assert world.ask("SELECT trigger_id FROM runs") == [(new.id,)]


def test_a_lost_connection_is_repeated_once_without_the_caller_noticing(
    world: World, recorder: Recorder
) -> None:
    recorder.start()
    recorder.record(new_trigger(world)).result(5)
    world.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pointsman record'"
    )
    recorder.record(new_trigger(world)).result(5)
    assert world.ask("SELECT count(*) FROM runs") == [(2,)]


def test_a_caller_that_gave_up_is_not_recorded(world: World, recorder: Recorder) -> None:
    answer: Future[None] = recorder.record(new_trigger(world))
    assert answer.cancel()
    recorder.start()
    recorder.record(new_trigger(world)).result(5)
    assert world.ask("SELECT count(*) FROM triggers") == [(1,)]
