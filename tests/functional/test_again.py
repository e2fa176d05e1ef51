"""Replays, retries of one execution, replay jobs and cancelling, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.peers.receiver import Receiver
from tests.running import Running, eventually


def post(pointsman: Running, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    return pointsman.api.post(f"/api/v1{path}", json=body or {})


def failed_chain(pointsman: Running, receiver: Receiver) -> tuple[dict[str, Any], dict[str, Any]]:
    """A callback whose second of three steps failed, and its trigger."""
    callback = pointsman.callback(
        receiver.url("/first"),
        [
            {"type": "HTTP_POST", "name": "second", "config": {"url": receiver.url("/status/400")}},
            {"type": "HTTP_POST", "config": {"url": receiver.url("/third")}},
        ],
    )
    trigger = pointsman.ended(pointsman.fire(callback, json={"n": 1}))
    assert [e["status"] for e in trigger["executions"]] == ["SUCCESS", "FAILED", "FAILED"]
    return callback, trigger


def fix(pointsman: Running, receiver: Receiver, callback: dict[str, Any]) -> None:
    config = {"url": receiver.url("/fixed")}
    pointsman.api.patch(f"/api/v1/actions/{callback['actions'][0]['id']}", json={"config": config})


def test_a_fixed_callback_finishes_what_had_failed(pointsman: Running, receiver: Receiver) -> None:
    callback, old = failed_chain(pointsman, receiver)
    fix(pointsman, receiver, callback)

    answer = post(pointsman, f"/triggers/{old['id']}/replay", {"from": "failed"})

    assert (answer.status_code, answer.json()["replayOf"]) == (202, old["id"])
    new = pointsman.ended(answer.json()["id"])
    assert (new["status"], new["replayOf"]) == ("SUCCESS", old["id"])
    assert [r.path for r in receiver.receipts] == ["/first", "/status/400", "/fixed", "/third"]
    assert receiver.receipts[-1].body == receiver.receipts[0].body
    assert pointsman.trigger(old["id"])["status"] == "FAILED", "the old trigger stays as it was"
    ids = {receipt.webhook_id for receipt in receiver.receipts}
    assert len(ids) == 4, "a replay's calls bear ids of their own"


def test_a_replay_from_the_start_runs_all(pointsman: Running, receiver: Receiver) -> None:
    callback, old = failed_chain(pointsman, receiver)
    fix(pointsman, receiver, callback)
    answer = post(pointsman, f"/triggers/{old['id']}/replay", {"from": "start"})
    assert pointsman.ended(answer.json()["id"])["status"] == "SUCCESS"
    assert [r.path for r in receiver.receipts][2:] == ["/first", "/fixed", "/third"]


def test_one_execution_is_retried(pointsman: Running, receiver: Receiver) -> None:
    callback, old = failed_chain(pointsman, receiver)
    fix(pointsman, receiver, callback)
    execution = old["executions"][1]["id"]
    answer = post(pointsman, f"/executions/{execution}/retry")
    assert answer.status_code == 202
    assert pointsman.ended(answer.json()["id"])["status"] == "SUCCESS"
    assert [r.path for r in receiver.receipts][2:] == ["/fixed"]


def test_what_cannot_be_replayed_says_why(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/delay/1500"))
    moving = pointsman.fire(callback)
    answer = post(pointsman, f"/triggers/{moving}/replay", {"from": "start"})
    assert (answer.status_code, answer.json()["code"]) == (409, "trigger_in_motion")
    pointsman.ended(moving)
    answer = post(pointsman, f"/triggers/{moving}/replay", {"from": "failed"})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_failed")
    assert post(pointsman, f"/triggers/{moving}/replay", {"from": "middle"}).status_code == 422
    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json={"activeStatus": False})
    answer = post(pointsman, f"/triggers/{moving}/replay", {"from": "start"})
    assert (answer.status_code, answer.json()["code"]) == (409, "callback_inactive")


def test_a_waiting_trigger_can_be_cancelled(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/status/503"))
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first attempt")
    eventually(lambda: pointsman.trigger(trigger_id)["executions"][0]["nextAttemptAt"], 5, "a planned retry")

    answer = post(pointsman, f"/triggers/{trigger_id}/cancel")

    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (
        200,
        "FAILED",
        "cancelled",
    )
    (execution,) = pointsman.trigger(trigger_id)["executions"]
    assert execution["error"].startswith("cancelled: ")
    again = post(pointsman, f"/triggers/{trigger_id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "trigger_settled")


def test_what_follows_a_cancelled_attempt_does_not_run(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(
        receiver.url("/delay/500"), [{"type": "HTTP_POST", "config": {"url": receiver.url("/never")}}]
    )
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first attempt")
    assert post(pointsman, f"/triggers/{trigger_id}/cancel").status_code == 200
    dropped = f"claim_lost  trigger={trigger_id}"
    eventually(lambda: dropped in pointsman.log(), 10, "the late result to be dropped")
    assert [r.path for r in receiver.receipts] == ["/delay/500"]
    assert [e["status"] for e in pointsman.trigger(trigger_id)["executions"]] == ["FAILED", "FAILED"]


def test_a_job_replays_what_failed(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/status/400"))
    old = [pointsman.fire(callback, json={"n": n}) for n in range(7)]
    for one in old:
        pointsman.ended(one)
    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json={"callbackUrl": receiver.url("/fixed")})

    answer = post(pointsman, "/replays", {"callbackId": callback["id"], "status": "FAILED"})

    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    job = eventually(lambda: _ended(pointsman, job_id), 15, "the end of the job")
    assert (job["state"], job["total"], job["replayed"], job["skipped"]) == ("DONE", 7, 7, 0)
    eventually(lambda: len(receiver.got("/fixed")) == 7, 15, "seven replays")
    query = {"callbackId": callback["id"], "status": "SUCCESS"}

    def replayed() -> set[str]:
        listed = pointsman.api.get("/api/v1/triggers", params=query).json()["items"]
        return {trigger["replayOf"] for trigger in listed}

    eventually(lambda: replayed() == set(old), 5, "the success of each replay")
    assert job_id in {one["id"] for one in pointsman.api.get("/api/v1/replays").json()["items"]}
    refused = post(pointsman, f"/replays/{job_id}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "replay_ended")


def _ended(pointsman: Running, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = pointsman.api.get(f"/api/v1/replays/{job_id}").json()
    return job if job["state"] != "RUNNING" else None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"status": "SUCCESS", "start": "failed"}, "start"),
        ({"from": "2999-01-01T00:00:00Z"}, "from"),
        ({"from": "2020-01-01T00:00:00"}, "from"),
        ({"status": "PENDING"}, "status"),
        ({"callbackId": None}, "callbackId"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(
    pointsman: Running, receiver: Receiver, body: dict[str, Any], word: str
) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    answer = post(pointsman, "/replays", {"callbackId": callback["id"]} | body)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]


def test_a_callback_switched_off_meanwhile_is_a_reason_and_can_be_replayed(
    pointsman: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/status/503"))
    pointsman.primary(callback, retry={"maxAttempts": 3, "schedule": [2]})
    trigger_id = pointsman.fire(callback)
    eventually(lambda: receiver.receipts, 5, "the first attempt")
    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json={"activeStatus": False})

    trigger = pointsman.ended(trigger_id)

    assert (trigger["status"], trigger["reason"]) == ("FAILED", "callback_inactive")
    assert trigger["executions"][0]["error"].startswith("callback_inactive: ")
    assert len(receiver.receipts) == 1
    change = {"activeStatus": True, "callbackUrl": receiver.url("/fixed")}
    pointsman.api.patch(f"/api/v1/callbacks/{callback['id']}", json=change)
    answer = post(pointsman, f"/triggers/{trigger_id}/replay", {"from": "failed"})
    assert pointsman.ended(answer.json()["id"])["status"] == "SUCCESS"


def test_executions_can_be_listed_and_read(pointsman: Running, receiver: Receiver) -> None:
    _, trigger = failed_chain(pointsman, receiver)
    first, second, _third = trigger["executions"]

    def ids(**query: str) -> list[str]:
        answer = pointsman.api.get("/api/v1/executions", params=query)
        return [one["id"] for one in answer.json()["items"]]

    assert ids(actionId=second["actionId"]) == [second["id"]]
    assert ids(actionId=second["actionId"], status="FAILED") == [second["id"]]
    assert ids(actionId=second["actionId"], status="SUCCESS") == []
    assert ids(actionId=second["actionId"], status="RUNNING") == []
    assert first["id"] in ids()
    assert pointsman.api.get(f"/api/v1/executions/{second['id']}").json() == second
    assert pointsman.api.get(f"/api/v1/executions/{trigger['id']}").status_code == 404
