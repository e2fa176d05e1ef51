"""Every point at which a process or a connection can end, between accept and settle.

A proxy stands between Pointsman and PostgreSQL. It recognises one message of one kind of connection
and cuts the connection there, before the server gets it or after the server has answered; or it
leaves it hanging there while the process is killed. So each commit is once certainly lost and once
certainly made, with nobody told.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import OnOutsideServers, on_outside_servers
from tests.faults.oracle import (
    no_terminal_state_was_left,
    nobody_was_lost_with_a_worker,
    nothing_was_lost,
    watch_terminal_states,
)
from tests.peers.receiver import Receiver
from tests.running import QUICKER, Running, eventually
from tests.sent import unlike_any_other

RECORD, CLAIM, JOURNAL = b"pointsman record", b"pointsman claim", b"pointsman journal"
COMMIT = b"COMMIT"

# Without a key this statement commits by itself.
RECORD_ONE = b"EXECUTE enter"

# A worker that was killed several times in a row starts again with a pause of up to 10 s.
HOLD_SECONDS = 25

before_or_after = pytest.mark.parametrize("after_answer", [False, True], ids=["before", "after"])


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path_factory.mktemp("outside"), QUICKER) as made:
        yield made


def call(callback: dict[str, Any], key: str | None = None) -> httpx.Response | None:
    """Call a trigger URL; None when the connection ended without an answer.

    No two calls are alike but those with one key.
    """
    made = unlike_any_other(key)
    headers = made["headers"] | ({} if key is None else {"idempotency-key": key})
    url, content = callback["triggerUrl"], made["content"]
    try:
        return httpx.post(url, content=content, headers=headers, trust_env=False, timeout=20)
    except httpx.TransportError:
        return None


def recorded(running: Running, callback: dict[str, Any]) -> list[str]:
    rows = running.query("SELECT id::text FROM triggers WHERE callback_id = %s ORDER BY id", callback["id"])
    return [row[0] for row in rows]


@before_or_after
@pytest.mark.parametrize(
    ("who", "message", "key"),
    [(RECORD, RECORD_ONE, False), (RECORD, COMMIT, True), (CLAIM, COMMIT, False), (JOURNAL, COMMIT, False)],
)
def test_a_connection_cut_at_a_commit_loses_and_doubles_nothing(
    behind: OnOutsideServers, receiver: Receiver, who: bytes, message: bytes, key: bool, after_answer: bool
) -> None:
    """COMMIT ambiguous, of accept, claim and journal.

    Guards: client-made keys with ON CONFLICT DO NOTHING, reconcile, the journal's repetition under
    the fence.
    """
    callback = behind.running.callback(receiver.url("/ok"))
    cut = behind.postgres_proxy.cut_at(who, message, after_answer=after_answer, skip=2)

    answers = [call(callback, str(uuid.uuid4()) if key else None) for _ in range(8)]

    assert cut.happened.wait(10), "the connection was never cut"
    assert [answer.status_code for answer in answers if answer] == [202] * 8
    accepted = [behind.running.note(answer) for answer in answers if answer]
    nothing_was_lost(behind.running, receiver, accepted)
    assert recorded(behind.running, callback) == sorted(accepted), "none was recorded twice"
    assert len(receiver.receipts) == 8, "none was delivered twice"


@before_or_after
def test_a_call_that_was_told_503_is_repeated_by_its_key(
    behind: OnOutsideServers, receiver: Receiver, after_answer: bool
) -> None:
    """The commit is cut twice, so that nobody can tell.

    Guards: Idempotency-Key inside the commit.
    """
    callback, key = behind.running.callback(receiver.url("/ok")), str(uuid.uuid4())
    cuts = [behind.postgres_proxy.cut_at(RECORD, COMMIT, after_answer=after_answer) for _ in range(2)]
    refused = call(callback, key)
    assert refused is not None
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert refused.json()["code"] == "outcome_unknown", "it may have been recorded"
    assert all(cut.happened.is_set() for cut in cuts)

    again = call(callback, key)

    assert again is not None
    assert again.status_code == 202
    nothing_was_lost(behind.running, receiver, [behind.running.note(again)])
    assert recorded(behind.running, callback) == [again.json()["triggerId"]]
    assert len(receiver.receipts) == 1


@before_or_after
def test_the_api_killed_at_the_commit(
    behind: OnOutsideServers, receiver: Receiver, after_answer: bool
) -> None:
    """After INSERT before COMMIT, and after COMMIT before the answer.

    Guards: Idempotency-Key, the sweep of lost hints.
    """
    callback, key = behind.running.callback(receiver.url("/ok")), str(uuid.uuid4())
    hold = behind.postgres_proxy.hold_at(RECORD, COMMIT, after_answer=after_answer)
    answers: list[httpx.Response | None] = []
    caller = threading.Thread(target=lambda: answers.append(call(callback, key)))
    caller.start()
    assert hold.happened.wait(HOLD_SECONDS)
    behind.running.kill("api")
    caller.join(10)
    assert answers == [None], "the caller was told nothing"
    eventually(lambda: _answers(behind.running), 20, "a new API")

    again = call(callback, key)

    assert again is not None
    assert again.status_code == 202
    nothing_was_lost(behind.running, receiver, [behind.running.note(again)])
    assert recorded(behind.running, callback) == [again.json()["triggerId"]]


def _answers(running: Running) -> bool:
    try:
        return httpx.get(f"{running.url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_the_api_killed_after_the_answer_before_the_hint(
    behind: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: the sweep of lost hints. Redis lets nothing through, so no hint can have left."""
    callback = behind.running.callback(receiver.url("/ok"))
    behind.valkey_proxy.stall()
    accepted = [behind.running.fire(callback, **unlike_any_other()) for _ in range(10)]
    behind.running.kill("api")
    behind.valkey_proxy.cut()
    behind.valkey_proxy.resume()
    nothing_was_lost(behind.running, receiver, accepted, 30)
    eventually(lambda: _answers(behind.running), 20, "a new API")


@pytest.mark.parametrize(
    ("who", "message", "after_answer", "attempts"),
    [
        pytest.param(CLAIM, b"EXECUTE claim", False, 1, id="hint popped, not claimed"),
        pytest.param(CLAIM, COMMIT, False, 1, id="claim not committed"),
        pytest.param(CLAIM, COMMIT, True, 2, id="claim committed, process gone"),
        pytest.param(JOURNAL, COMMIT, False, 2, id="attempt sent, not journaled"),
        pytest.param(JOURNAL, COMMIT, True, 1, id="journaled, nobody told"),
    ],
)
def test_the_worker_killed_at_a_commit(
    behind: OnOutsideServers,
    receiver: Receiver,
    who: bytes,
    message: bytes,
    after_answer: bool,
    attempts: int,
) -> None:
    """Guards: the sweep of lost hints, the void of a dead worker's claims, an attempt recorded
    before it is sent.
    """
    callback = behind.running.callback(receiver.url("/ok"))
    eventually(lambda: _has_a_worker(behind.running), 20, "a worker")
    hold = behind.postgres_proxy.hold_at(who, message, after_answer=after_answer)
    trigger_id = behind.running.fire(callback)
    assert hold.happened.wait(HOLD_SECONDS)
    behind.running.kill("worker")

    trigger = behind.running.ended(trigger_id, 30)

    (execution,) = trigger["executions"]
    assert (trigger["status"], execution["attempt"]) == ("SUCCESS", attempts)
    assert {entry["outcome"] for entry in execution["history"]} <= {"worker_lost"}
    assert len({receipt.webhook_id for receipt in receiver.receipts}) == 1
    nothing_was_lost(behind.running, receiver, [trigger_id])


def test_a_waiting_caller_whose_worker_dies_behind_the_commit_is_told(
    behind: OnOutsideServers, receiver: Receiver
) -> None:
    """Settled, waiter not told.

    Guards: the look at the rows each second, which needs nobody to tell.
    """
    callback = behind.running.callback(receiver.url("/ok"))
    hold = behind.postgres_proxy.hold_at(JOURNAL, COMMIT, after_answer=True)
    answers: list[httpx.Response] = []
    headers = {"prefer": "wait=20"}
    caller = threading.Thread(
        target=lambda: answers.append(
            httpx.post(callback["triggerUrl"], headers=headers, trust_env=False, timeout=30)
        )
    )
    caller.start()
    assert hold.happened.wait(HOLD_SECONDS)
    behind.running.kill("worker")
    caller.join(5)
    assert not caller.is_alive(), "it was told long before its time was over"
    assert [(a.status_code, a.json()["status"]) for a in answers] == [(200, "SUCCESS")]
    nothing_was_lost(behind.running, receiver, [behind.running.note(answers[0])])
    assert len(receiver.receipts) == 1


def test_a_worker_told_to_stop_gives_back_a_claim_that_it_never_heard_of(
    behind: OnOutsideServers, receiver: Receiver
) -> None:
    """Drain against claim: the commit is made and its answer hangs while the worker leaves.

    Guards: the reconcile, which goes on during a drain, and the last look behind it. Without them
    another worker would have to find it dead.
    """
    callback = behind.running.callback(receiver.url("/ok"))
    eventually(lambda: _has_a_worker(behind.running), 20, "a worker")
    hold = behind.postgres_proxy.hold_at(CLAIM, COMMIT, after_answer=True)
    trigger_id = behind.running.fire(callback)
    assert hold.happened.wait(HOLD_SECONDS)
    behind.running.signal("worker", "SIGTERM")

    trigger = behind.running.ended(trigger_id, 40)

    (execution,) = trigger["executions"]
    assert [(h["attempt"], h["outcome"]) for h in execution["history"]] == [(1, "released")]
    nothing_was_lost(behind.running, receiver, [trigger_id])
    nobody_was_lost_with_a_worker(behind.running, [trigger_id])


def _has_a_worker(running: Running) -> bool:
    """Also a process: the row of one that was just killed looks alive for a moment."""
    beats = running.query("SELECT 1 FROM workers WHERE heartbeat_at > now() - interval '1 s'")
    return bool(beats) and "worker" in running.pids()


def test_a_late_settle_of_a_worker_that_was_declared_dead_changes_nothing(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Void committed while the old worker still writes. Guards: the fence.

    The first worker's settle hangs on its way to PostgreSQL and the worker sleeps; the other one
    declares it dead and is in the middle of the next attempt when the settle arrives after all.
    """

    def slow_when_repeated(_path: str) -> None:
        if receiver.receipts:
            time.sleep(4)

    receiver.before_answer = slow_when_repeated
    with on_outside_servers(tmp_path, {**QUICKER, "POINTSMAN_WORKERS": "2"}) as outside:
        running = outside.running
        watch_terminal_states(running)
        callback = running.callback(receiver.url("/ok"))
        hold = outside.postgres_proxy.hold_at(JOURNAL, b"EXECUTE journal_lock", after_answer=False)
        trigger_id = running.fire(callback)
        assert hold.happened.wait(HOLD_SECONDS)
        ((first,),) = running.query("SELECT worker_id FROM runs WHERE trigger_id = %s", trigger_id)
        asleep = _put_to_sleep(running, first)
        holder = "SELECT worker_id FROM runs WHERE status = 'RUNNING' AND worker_id <> %s"
        ((second,),) = eventually(lambda: running.query(holder, first), 20, "the other worker's claim")

        hold.release()
        running.signal_pid(asleep, "SIGCONT")
        eventually(lambda: running.query("SELECT count(*) FROM workers") == [(2,)], 20, "its return")

        assert running.query(holder, first) == [(second,)], "the run is still the other's"
        trigger = running.ended(trigger_id, 20)
        (execution,) = trigger["executions"]
        assert (trigger["status"], execution["attempt"]) == ("SUCCESS", 2)
        nothing_was_lost(running, receiver, [trigger_id])
        no_terminal_state_was_left(running)


def _put_to_sleep(running: Running, worker_id: Any) -> int:
    """Stop the process of this worker; its pid. Only its silence tells which one it is."""
    silent = "SELECT id FROM workers WHERE heartbeat_at < now() - interval '1 s'"
    for pid in running.all_pids("worker"):
        running.signal_pid(pid, "SIGSTOP")
        ((found,),) = eventually(lambda: running.query(silent), 5, "a heartbeat that stopped")
        if found == worker_id:
            return pid
        running.signal_pid(pid, "SIGCONT")
        eventually(lambda: not running.query(silent), 5, "its heartbeat again")
    raise AssertionError("no process of this worker")
