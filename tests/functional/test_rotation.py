"""Rotations as an owner and a receiver live through them: nothing is missed, and what is over is
over.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
import standardwebhooks
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deploy.local.state import DataFolder
from shared.crypto import SecretBox
from tests.peers.receiver import Receipt, Receiver
from tests.running import Running, eventually

BODY = b'{"order": 42}'
LIBRARIES = (standardwebhooks.Webhook, svix.webhooks.Webhook)


def rotate(pointsman: Running, what: str, callback: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/rotate-{what}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def delivered(pointsman: Running, receiver: Receiver, callback: dict[str, Any]) -> Receipt:
    """What the receiver gets for a call of this callback."""
    trigger = pointsman.fire(callback, content=BODY)
    eventually(lambda: [r for r in receiver.receipts if r.trigger_id == trigger], 15, "its delivery")
    (receipt,) = [r for r in receiver.receipts if r.trigger_id == trigger]
    return receipt


def verifies(key: str, receipt: Receipt) -> bool:
    """Whether a receiver that knows this key takes the delivery; the libraries must agree."""
    if key.startswith("whpk_"):
        return verifies_ed25519(key, receipt)
    said = set()
    for library in LIBRARIES:
        try:
            library(key).verify(receipt.body, receipt.headers)
        except standardwebhooks.WebhookVerificationError:
            said.add(False)
        else:
            said.add(True)
    (found,) = said
    return found


def verifies_ed25519(key: str, receipt: Receipt) -> bool:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    headers = receipt.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + receipt.body
    for signature in headers["webhook-signature"].split(" "):
        scheme, _, encoded = signature.partition(",")
        if scheme == "v1a":
            try:
                public.verify(base64.b64decode(encoded), signed)
            except InvalidSignature:
                continue
            return True
    return False


@pytest.fixture(params=["admin", "another tenant"])
def tenant(request: pytest.FixtureRequest, pointsman: Running, other_tenant: Running) -> Running:
    """Each of two tenants, whose callbacks and secrets have nothing to do with one another."""
    return pointsman if request.param == "admin" else other_tenant


def schemes(receipt: Receipt) -> list[str]:
    return [one.partition(",")[0] for one in receipt.headers["webhook-signature"].split(" ")]


def test_receivers_verify_before_during_and_after_a_rotation(tenant: Running, receiver: Receiver) -> None:
    callback = tenant.callback(receiver.url("/ok"))
    others = tenant.callback(receiver.url("/others"))
    old = callback["signingSecret"]
    before = delivered(tenant, receiver, callback)
    assert verifies(old, before)
    assert schemes(before) == ["v1"]

    new = rotate(tenant, "secret", callback, graceSeconds=5)["signingSecret"]
    during = delivered(tenant, receiver, callback)
    assert verifies(old, during)
    assert verifies(new, during)
    assert schemes(during) == ["v1", "v1"]

    eventually(lambda: not verifies(old, delivered(tenant, receiver, callback)), 15, "the end of the old one")
    after = delivered(tenant, receiver, callback)
    assert verifies(new, after)
    assert schemes(after) == ["v1"]
    assert not verifies(new, before)
    assert not verifies(others["signingSecret"], after)
    assert verifies(others["signingSecret"], delivered(tenant, receiver, others)), "it kept its own"


def test_from_hmac_to_ed25519_and_back(tenant: Running, receiver: Receiver) -> None:
    """The libraries' verification of `v1` does not mind the `v1a` beside it."""
    callback = tenant.callback(receiver.url("/ok"))
    rotated = rotate(tenant, "secret", callback, signatures=["v1a"])
    assert rotated["signingSecret"] is None
    (public,) = [key["key"] for key in rotated["publicKeys"]]
    both = delivered(tenant, receiver, callback)
    assert schemes(both) == ["v1a", "v1"]
    assert verifies(public, both)
    assert verifies(callback["signingSecret"], both)

    rotate(tenant, "secret", callback, graceSeconds=0)
    alone = delivered(tenant, receiver, callback)
    assert schemes(alone) == ["v1a"], "the default is what signs without an end"
    assert not verifies(public, alone)

    back = rotate(tenant, "secret", callback, graceSeconds=0, signatures=["v1"])
    assert back["publicKeys"] == []
    assert verifies(back["signingSecret"], delivered(tenant, receiver, callback))


def test_both_schemes_from_the_beginning(tenant: Running, receiver: Receiver) -> None:
    callback = tenant.callback(receiver.url("/ok"), signatures=["v1a", "v1"])
    assert callback["signatures"] == ["v1", "v1a"]
    ((public, expires_at),) = [(key["key"], key["expiresAt"]) for key in callback["publicKeys"]]
    assert expires_at is None
    receipt = delivered(tenant, receiver, callback)
    assert verifies(public, receipt)
    assert verifies(callback["signingSecret"], receipt)
    rotated = rotate(tenant, "secret", callback)
    keys = [key["key"] for key in rotated["publicKeys"]]
    assert keys[1] == public
    receipt = delivered(tenant, receiver, callback)
    assert schemes(receipt) == ["v1", "v1a", "v1", "v1a"]
    for key in (*keys, rotated["signingSecret"], callback["signingSecret"]):
        assert verifies(key, receipt)
    ends = [key["expiresAt"] for key in rotated["publicKeys"]]
    assert ends == [None, rotated["graceEndsAt"]]
    shown = tenant.api.get(f"/api/v1/callbacks/{callback['id']}").json()
    assert shown["publicKeys"] == rotated["publicKeys"]
    assert "signingSecret" not in shown


def test_without_a_grace_time_the_next_delivery_is_signed_by_the_new_one_alone(
    tenant: Running, receiver: Receiver
) -> None:
    callback = tenant.callback(receiver.url("/ok"))
    new = rotate(tenant, "secret", callback, graceSeconds=0)["signingSecret"]
    receipt = delivered(tenant, receiver, callback)
    assert verifies(new, receipt)
    assert not verifies(callback["signingSecret"], receipt)


def test_a_retry_behind_the_end_of_the_grace_time_is_signed_by_the_new_one_alone(
    pointsman: Running, receiver: Receiver
) -> None:
    """Fails when a run signs each attempt as it signed its first one."""
    callback = pointsman.callback(receiver.url("/flaky/1"))
    pointsman.primary(callback, retry={"maxAttempts": 2, "schedule": [6]})
    new = rotate(pointsman, "secret", callback, graceSeconds=5)["signingSecret"]
    trigger = pointsman.ended(pointsman.fire(callback, content=BODY))
    first, again = [r for r in receiver.receipts if r.trigger_id == trigger["id"]]
    assert first.webhook_id == again.webhook_id
    assert verifies(callback["signingSecret"], first)
    assert verifies(new, first)
    assert verifies(new, again)
    assert not verifies(callback["signingSecret"], again)


def test_a_day_of_grace_is_what_comes_without_a_body(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    for what in ("secret", "token"):
        answer = pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/rotate-{what}")
        assert answer.status_code == 200, answer.text
        left = datetime.fromisoformat(answer.json()["graceEndsAt"]) - datetime.now(UTC)
        assert 86_300 < left.total_seconds() <= 86_400


@pytest.mark.parametrize("what", ["secret", "token"])
@pytest.mark.parametrize(
    "body",
    [
        {"graceSeconds": -1},
        {"graceSeconds": 30 * 24 * 3600 + 1},
        {"graceSeconds": "soon"},
        {"other": 1},
        {"signatures": []},
        {"signatures": ["v2"]},
    ],
)
def test_what_cannot_be_meant_is_422(pointsman: Running, what: str, body: dict[str, Any]) -> None:
    callback = pointsman.callback("http://127.0.0.1:9/")
    path = f"/api/v1/callbacks/{callback['id']}"
    answer = pointsman.api.post(f"{path}/rotate-{what}", json=body)
    assert answer.status_code == 422, answer.text
    assert pointsman.api.get(path).json()["triggerToken"] == callback["triggerToken"]


@pytest.mark.parametrize("what", ["secret", "token"])
def test_beyond_five_it_is_409_and_a_hint_says_what_helps(pointsman: Running, what: str) -> None:
    callback = pointsman.callback("http://127.0.0.1:9/")
    path = f"/api/v1/callbacks/{callback['id']}/rotate-{what}"
    answers = [pointsman.api.post(path) for _ in range(6)]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (409, f"too_many_{what}s")
    assert "graceSeconds 0" in refused.json()["hint"]
    assert pointsman.api.post(path, json={"graceSeconds": 0}).status_code == 200


def test_a_repeated_rotation_rotates_once_and_shows_its_secret_once(pointsman: Running) -> None:
    callback = pointsman.callback("http://127.0.0.1:9/", signatures=["v1", "v1a"])
    path, key = f"/api/v1/callbacks/{callback['id']}/rotate-secret", {"idempotency-key": uuid4().hex}
    first, again = (pointsman.api.post(path, headers=key, json={}) for _ in range(2))
    secret = first.json()["signingSecret"]
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == {name: value for name, value in first.json().items() if name != "signingSecret"}
    ((answer, rows),) = pointsman.query(
        "SELECT k.answer, c.signing_secrets FROM kept_answers k, callbacks c WHERE k.key = %s AND c.id = %s",
        key["idempotency-key"],
        callback["id"],
    )
    box = SecretBox(DataFolder(pointsman.folder / "data").secret_keys())
    assert secret in [box.decrypt(row["secret"]) for row in rows]
    assert len(rows) == 4, "two new ones and two old ones"
    assert secret not in box.decrypt(answer)
    assert answer.startswith("sealed:")


def call(url: str, **request: Any) -> httpx.Response:
    return httpx.request(request.pop("method", "POST"), url, trust_env=False, **request)


def answers(url: str, status: int, seconds: float) -> None:
    """Wait until a call of this URL is answered so."""
    eventually(lambda: call(url, content=BODY).status_code == status, seconds, f"a {status} of {url}")


def test_the_old_trigger_url_answers_until_the_grace_time_is_over(
    tenant: Running, receiver: Receiver
) -> None:
    callback = tenant.callback(receiver.url("/ok"), customPath=f"orders-{uuid4().hex}")
    old = callback["triggerUrl"]
    rotated = rotate(tenant, "token", callback, graceSeconds=8)
    new = rotated["triggerUrl"]
    assert new.endswith(f"/t/{rotated['triggerToken']}")
    assert new != old

    for url in (old, new, callback["customUrl"]):
        answer = call(url, content=BODY)
        assert answer.status_code == 202
        trigger, status_url = answer.json()["triggerId"], answer.json()["statusUrl"]
        assert status_url == f"{url}/{trigger}", "the status stands under the address that was called"
        assert call(status_url, method="GET").status_code == 200
        assert tenant.ended(trigger)["callbackId"] == callback["id"]
        assert call(f"{old}/{trigger}", method="GET").status_code == 200
    assert call(old, method="HEAD").status_code == 200

    answers(old, 404, 15)
    answer = call(old, content=BODY)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_trigger_url")
    assert call(f"{old}/{trigger}", method="GET").status_code == 404
    for url in (new, callback["customUrl"]):
        assert call(url, content=BODY).status_code == 202
        assert call(f"{url}/{trigger}", method="GET").status_code == 200


def test_without_a_grace_time_all_old_trigger_urls_end_at_once(tenant: Running, receiver: Receiver) -> None:
    """At once means as soon as what an API process knows of a callback is a second old."""
    callback = tenant.callback(receiver.url("/ok"))
    second = rotate(tenant, "token", callback)["triggerUrl"]
    assert call(callback["triggerUrl"], content=BODY).status_code == 202
    new = rotate(tenant, "token", callback, graceSeconds=0)["triggerUrl"]
    for url in (callback["triggerUrl"], second):
        answers(url, 404, 2)
    assert call(new, content=BODY).status_code == 202


def test_an_old_trigger_url_ends_with_its_callback(pointsman: Running, receiver: Receiver) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    rotate(pointsman, "token", callback)
    path = f"/api/v1/callbacks/{callback['id']}"
    pointsman.api.patch(path, json={"activeStatus": False})
    answers(callback["triggerUrl"], 403, 2)
    assert pointsman.api.delete(path).status_code == 204
    answers(callback["triggerUrl"], 404, 2)
    assert pointsman.api.post(f"{path}/rotate-token").status_code == 404


def test_nobody_rotates_what_is_anothers(
    pointsman: Running, other_tenant: Running, receiver: Receiver
) -> None:
    callback = pointsman.callback(receiver.url("/ok"))
    path = f"/api/v1/callbacks/{callback['id']}"
    before = pointsman.api.get(path).json()
    for what in ("secret", "token"):
        answer = other_tenant.api.post(f"{path}/rotate-{what}", json={"graceSeconds": 0})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert pointsman.api.get(path).json() == before
    assert verifies(callback["signingSecret"], delivered(pointsman, receiver, callback))
