"""Recording triggers on a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from api.ingress.call import Call
from api.ingress.deduplicate import CACHE, CALLERS, RequestKey
from api.ingress.record import Decided, NewTrigger, Recorded, Recorder
from api.ingress.resolve import Snapshot
from shared.errors import Conflict, RowRejected, Unavailable
from shared.ids import new_id
from shared.redis.hints import HintPublisher, HintSender
from shared.redis.queues import make_celery
from tests.loops import later
from tests.world import World


@pytest.fixture
def recorder(world: World, redis_url: str) -> Iterator[Recorder]:
    publisher = HintPublisher(HintSender(make_celery(redis_url), redis_url))
    publisher.start()
    recorder = Recorder(world.database_url, publisher, call_seconds=3, first_hint_seconds=5)
    yield recorder
    recorder.stop()
    publisher.stop()


def new_trigger(
    world: World,
    *,
    id: UUID | None = None,
    callback_id: UUID | None = None,
    key: RequestKey | None = None,
    **call: Any,
) -> NewTrigger:
    callback = Snapshot(callback_id or world.callback_id, world.user_id, True, 30_000, 0)
    made = Call(
        address="/t/x",
        trigger_url="http://localhost/t/x",
        request_id="r",
        method="POST",
        path="/t/x",
        query="a=1",
        headers='[["a", "b"]]',
        content_type="text/plain",
        body=b"\x00\xff",
        source_ip="127.0.0.1",
    )
    return NewTrigger(id or new_id(), callback, dataclasses.replace(made, **call), key)


def test_a_recorded_trigger_has_a_run_that_the_sweep_looks_at_later(world: World, recorder: Recorder) -> None:
    recorder.start()
    trigger = new_trigger(world)
    later(recorder.record, trigger).result(5)
    row = world.run(trigger.id)
    assert row is not None
    assert (row["status"], row["claim"], UUID(row["callback_id"])) == ("PENDING", 0, world.callback_id)
    assert world.ask("SELECT hint_at > now() + interval '3 s', due_at <= now() FROM runs") == [(True, True)]
    assert bytes(world.ask("SELECT body FROM triggers")[0][0]) == b"\x00\xff"


NESTED = "[" * 100_000 + "]" * 100_000
"""What PostgreSQL refuses as too complex: SQLSTATE class 54, which psycopg2 takes for an outage."""


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param({"path": "a\x00b"}, id="a NUL"),
        pytest.param(
            {"id": UUID("00000000-0000-7000-8000-000000000000")}, id="a key outside every partition"
        ),
        pytest.param({"headers": "no json"}, id="a value that is no JSON"),
        pytest.param({"headers": NESTED}, id="beyond a limit of PostgreSQL"),
    ],
)
def test_one_poisoned_row_among_fifty_fails_alone(
    world: World, recorder: Recorder, poison: dict[str, Any]
) -> None:
    """Fails without the halving."""
    triggers = [new_trigger(world, **(poison if n == 25 else {})) for n in range(51)]
    answers = [later(recorder.record, trigger) for trigger in triggers]
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
    """Fails when runs are inserted from the parameters instead of from the triggers really
    inserted.
    """
    settled, new = new_trigger(world), new_trigger(world)
    recorder.flush([settled])
    world.do("DELETE FROM runs")

    recorder.flush([settled, new])

    assert world.ask("SELECT trigger_id FROM runs") == [(new.id,)]


def test_a_lost_connection_is_repeated_once_without_the_caller_noticing(
    world: World, recorder: Recorder
) -> None:
    recorder.start()
    later(recorder.record, new_trigger(world)).result(5)
    world.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pointsman record'"
    )
    later(recorder.record, new_trigger(world)).result(5)
    assert world.ask("SELECT count(*) FROM runs") == [(2,)]


def test_a_caller_that_gave_up_is_not_recorded(world: World, recorder: Recorder) -> None:
    answer = later(recorder.record, new_trigger(world))
    assert answer.cancel()
    recorder.start()
    later(recorder.record, new_trigger(world)).result(5)
    assert world.ask("SELECT count(*) FROM triggers") == [(1,)]


def made_of(name: str = "k", request: bytes = b"r", lifetime_seconds: float = 60) -> RequestKey:
    return RequestKey(CALLERS + name, request, lifetime_seconds)


CACHED = RequestKey(CACHE + "digest", b"r", 60)


def fail(world: World, trigger_id: UUID) -> None:
    """Settle a trigger as FAILED."""
    world.do("DELETE FROM runs WHERE trigger_id = %s", trigger_id)
    names = {"callback_id": world.callback_id, "user_id": world.user_id}
    world.rows.insert("logs", id=trigger_id, event="trigger.settled", success=False, **names)


def test_equal_keys_of_one_batch_share_one_trigger(world: World, recorder: Recorder) -> None:
    triggers = [new_trigger(world, key=made_of()) for _ in range(50)]
    plain = new_trigger(world)
    answers = recorder.flush([*triggers, plain])
    assert answers[0] == Recorded(triggers[0].id)
    assert answers[1:50] == [Recorded(triggers[0].id, repeated=True)] * 49
    assert answers[50] == Recorded(plain.id)
    assert world.ask("SELECT id, idempotency_key FROM triggers ORDER BY idempotency_key") == [
        (triggers[0].id, "k"),
        (plain.id, None),
    ]
    assert world.ask("SELECT count(*) FROM runs") == [(2,)]


def test_fifty_equal_requests_in_several_processes_become_one_trigger(world: World, redis_url: str) -> None:
    """Fails when the key is looked up before it is inserted."""
    publisher = HintPublisher(HintSender(make_celery(redis_url), redis_url))
    recorders = [
        Recorder(world.database_url, publisher, call_seconds=3, first_hint_seconds=5) for _ in range(5)
    ]
    barrier = threading.Barrier(5)
    answers: list[Decided] = []

    def flush(recorder: Recorder, number: int) -> None:
        batch = [new_trigger(world, key=made_of(f"k{n}")) for n in range(10)]
        barrier.wait(5)
        answers.extend(recorder.flush(batch if number % 2 else batch[::-1]))
        recorder.stop()

    threads = [threading.Thread(target=flush, args=(r, n)) for n, r in enumerate(recorders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(answers) == 50
    assert world.ask("SELECT count(*) FROM triggers") == [(10,)]
    stored = {row[0] for row in world.ask("SELECT trigger_id FROM runs")}
    assert {a.trigger_id for a in answers if isinstance(a, Recorded)} == stored
    assert sum(1 for a in answers if isinstance(a, Recorded) and not a.repeated) == 10


def test_the_same_key_with_another_request_is_a_conflict(world: World, recorder: Recorder) -> None:
    first, other = new_trigger(world, key=made_of()), new_trigger(world, key=made_of(request=b"other"))
    answers = recorder.flush([first, other])
    assert answers[0] == Recorded(first.id)
    assert isinstance(answers[1], Conflict)
    assert isinstance(recorder.flush([other])[0], Conflict)
    assert world.ask("SELECT id FROM triggers") == [(first.id,)]


def test_a_key_belongs_to_its_callback(world: World, recorder: Recorder) -> None:
    other = UUID(world.rows.insert("callbacks")["id"])
    mine, theirs = new_trigger(world, key=made_of()), new_trigger(world, key=made_of(), callback_id=other)
    assert recorder.flush([mine, theirs]) == [Recorded(mine.id), Recorded(theirs.id)]


def test_an_expired_key_is_free_again(world: World, recorder: Recorder) -> None:
    old, new = new_trigger(world, key=made_of()), new_trigger(world, key=made_of(request=b"other"))
    recorder.flush([old])
    world.do("UPDATE idempotency_keys SET expires_at = now()")
    assert recorder.flush([new]) == [Recorded(new.id)]
    assert isinstance(recorder.flush([old])[0], Conflict)


def test_a_key_lasts_exactly_as_long_as_it_was_taken_for(world: World, recorder: Recorder) -> None:
    """Fails when it is forgotten early: a caller that repeats late would run it twice."""
    first, again = new_trigger(world, key=made_of(lifetime_seconds=3_600)), new_trigger(world, key=made_of())
    recorder.flush([first])
    assert world.ask("SELECT expires_at - created_at = interval '1 hour' FROM idempotency_keys") == [(True,)]
    world.do("UPDATE idempotency_keys SET expires_at = now() + interval '20 s'")
    assert recorder.flush([again]) == [Recorded(first.id, repeated=True)]
    assert world.ask("SELECT expires_at < now() + interval '21 s' FROM idempotency_keys") == [(True,)]


def test_a_keyed_batch_repeated_after_an_ambiguous_commit_gives_the_same_answers(
    world: World, recorder: Recorder
) -> None:
    """Fails when whoever finds its own key there takes itself for a repetition, or brings back what
    settled.
    """
    batch = [
        new_trigger(world, key=made_of()),
        new_trigger(world, key=made_of()),
        new_trigger(world, key=CACHED),
    ]
    first = recorder.flush(batch)
    fail(world, batch[2].id)
    assert recorder.flush(batch) == first
    assert world.ask("SELECT trigger_id FROM runs") == [(batch[0].id,)]


def test_the_cache_names_a_trigger_until_it_fails(world: World, recorder: Recorder) -> None:
    first, second, third = (new_trigger(world, key=CACHED) for _ in range(3))
    assert recorder.flush([first]) == [Recorded(first.id)]
    assert recorder.flush([second]) == [Recorded(first.id, repeated=True)]
    fail(world, first.id)
    assert recorder.flush([third]) == [Recorded(third.id)]


def test_a_failed_trigger_keeps_the_key_that_its_caller_chose(world: World, recorder: Recorder) -> None:
    first, second = (new_trigger(world, key=made_of()) for _ in range(2))
    recorder.flush([first])
    fail(world, first.id)
    assert recorder.flush([second]) == [Recorded(first.id, repeated=True)]


def test_a_poisoned_row_lets_go_of_its_key(world: World, recorder: Recorder) -> None:
    """Fails when the key is committed before the trigger: every repetition would name a trigger
    that is not there.
    """
    poisoned, sound = new_trigger(world, key=made_of(), path="a\x00b"), new_trigger(world, key=made_of())
    answers = [later(recorder.record, poisoned), later(recorder.record, sound)]
    recorder.start()
    with pytest.raises(RowRejected):
        answers[0].result(5)
    assert answers[1].result(5) == Recorded(sound.id)


def test_only_new_triggers_are_hinted(world: World, redis_url: str) -> None:
    offered: list[UUID] = []

    class Noting:
        def offer(self, _lane: str, ids: Sequence[UUID]) -> None:
            offered.extend(ids)

    recorder = Recorder(
        world.database_url, cast(HintPublisher, Noting()), call_seconds=3, first_hint_seconds=5
    )
    first = new_trigger(world, key=made_of())
    recorder.flush([first, new_trigger(world, key=made_of()), new_trigger(world, key=made_of(request=b"x"))])
    recorder.stop()
    assert offered == [first.id]


def test_a_key_that_is_taken_keeps_nobody_waiting(
    world: World, recorder: Recorder, connect: Callable[..., Any]
) -> None:
    """Fails when a hit locks the key: a popular one would line up the batches of all processes."""
    first = new_trigger(world, key=made_of())
    recorder.flush([first])
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM idempotency_keys FOR UPDATE")
        assert recorder.flush([new_trigger(world, key=made_of())]) == [Recorded(first.id, repeated=True)]
    other.rollback()


def test_a_change_of_the_callback_keeps_no_new_key_waiting(
    world: World, recorder: Recorder, connect: Callable[..., Any]
) -> None:
    """Fails when a key refers to its callback by a foreign key."""
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM callbacks FOR UPDATE")
        trigger = new_trigger(world, key=made_of())
        assert recorder.flush([trigger]) == [Recorded(trigger.id)]
    other.rollback()


def test_a_key_that_another_process_holds_for_long_fails_alone(
    world: World, recorder: Recorder, connect: Callable[..., Any]
) -> None:
    """Fails when a process that stopped in the middle of a commit stops everybody else's."""
    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute(
            "INSERT INTO idempotency_keys (callback_id, key, request_hash, trigger_id, expires_at)"
            " VALUES (%s, %s, '', %s, now() + interval '1 day')",
            (str(world.callback_id), made_of("held").key, str(new_id())),
        )
        batch = [new_trigger(world, key=made_of("held")), new_trigger(world)]
        batch += [new_trigger(world, key=made_of(f"free{n}")) for n in range(6)]
        answers = recorder.flush(batch)
    other.rollback()
    assert isinstance(answers[0], Unavailable)
    assert answers[1:] == [Recorded(one.id) for one in batch[1:]]
    assert recorder.flush(batch[:1]) == [Recorded(batch[0].id)]
