"""A callback that calls itself, directly or by a detour."""

from __future__ import annotations

from typing import Any

import httpx

from tests.faults.tenants import other_tenant
from tests.peers.receiver import Receiver
from tests.running import Running, eventually


def triggers(pointsman: Running, callback: dict[str, Any]) -> list[str]:
    rows = pointsman.query(
        "SELECT id::text FROM triggers WHERE callback_id = %s ORDER BY received_at", callback["id"]
    )
    return [row[0] for row in rows]


def has_ended(pointsman: Running, *callbacks: dict[str, Any]) -> bool:
    ids = [callback["id"] for callback in callbacks]
    return pointsman.query("SELECT count(*) FROM runs WHERE callback_id = ANY(%s::uuid[])", ids) == [(0,)]


def test_a_callback_whose_actions_call_it_runs_once(pointsman: Running, receiver: Receiver) -> None:
    """Fails without pointsman-via: one call made 3,000 triggers in six seconds."""
    callback = pointsman.callback(receiver.url("/ok"))
    path = f"/api/v1/callbacks/{callback['id']}/actions"
    for number in range(10):
        config = {"url": callback["triggerUrl"]}
        action = {"type": "HTTP_POST", "order": number, "parallel": True, "config": config}
        pointsman.api.post(path, json=action).raise_for_status()
    trigger = pointsman.ended(pointsman.fire(callback, content=b"round"))
    eventually(lambda: has_ended(pointsman, callback), 10, "the end of all")
    assert triggers(pointsman, callback) == [trigger["id"]]
    ends = [(one["status"], one["error"]) for one in trigger["executions"]]
    failed = [error for status, error in ends if status == "FAILED"]
    assert len(failed) == 10
    assert all(error.startswith("loop: ") for error in failed)
    assert {one["attempt"] for one in trigger["executions"]} == {1}
    (event,) = eventually(
        lambda: [
            log
            for log in pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/logs").json()["items"]
            if log["event"] == "trigger.loop"
        ],
        5,
        "the event",
    )
    assert (event["statusCode"], event["success"], event["details"]["reason"]) == (508, False, "loop")


def test_a_loop_by_a_detour_stops_where_it_closes(pointsman: Running, receiver: Receiver) -> None:
    """The detour leads through another tenant."""
    first = pointsman.callback(receiver.url("/ok"))
    with other_tenant(pointsman) as other:
        second = pointsman.callback(first["triggerUrl"], api=other)
    pointsman.primary(first, config={"url": second["triggerUrl"]})
    begun = pointsman.fire(first, content=b"round")
    eventually(lambda: len(triggers(pointsman, second)) == 1, 10, "the detour")
    eventually(lambda: has_ended(pointsman, first, second), 10, "the end of all")
    assert triggers(pointsman, first) == [begun]
    assert pointsman.trigger(begun)["status"] == "SUCCESS"
    ((error,),) = pointsman.query("SELECT error FROM action_executions WHERE callback_id = %s", second["id"])
    assert error.startswith("loop: ")


def test_receivers_are_told_and_callers_cannot_make_it_up(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    refused = httpx.post(
        callback["triggerUrl"], headers={"pointsman-via": callback["id"].upper()}, trust_env=False
    )
    assert (refused.status_code, refused.json()["code"]) == (508, "loop")
    pointsman.ended(pointsman.fire(callback, headers={"pointsman-via": "nonsense"}))
    (receipt,) = receiver.receipts
    assert receipt.headers["pointsman-via"] == callback["id"]
    config = {"url": receiver.url("/ok"), "headers": {"Pointsman-Via": "none"}}
    path = f"/api/v1/callbacks/{callback['id']}/actions"
    answer = pointsman.api.post(path, json={"type": "HTTP_POST", "config": config})
    assert answer.status_code == 422


def test_a_chain_of_sixteen_is_long_enough(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    for count, status in ((16, 202), (17, 508)):
        came = ",".join(f"{n:08x}-0000-0000-0000-000000000000" for n in range(count))
        answer = httpx.post(callback["triggerUrl"], headers={"pointsman-via": came}, trust_env=False)
        assert answer.status_code == status
